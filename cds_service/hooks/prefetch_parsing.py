"""Strict parsing of a prefetch that leaves the resources of its Bundles as bytes until they are read.

Its Bundles are checked as strictly as the rest of the request (`cds_hooks.strict_json`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from cds_hooks.strict_json import MAX_DEPTH, check_depth, duplicate_key, has_duplicate_keys, parse_object, parse_value
from fhir_mapping import InvalidInputError
from fhir_mapping.parsing import Bundle, check_utf8, decode_json, unread

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT = re.compile(rb'\{[ \t\r\n]*"[A-Za-z]')


def parse_prefetch(text: bytes, levels: int = MAX_DEPTH) -> dict[str, Any]:
    """The members of a JSON object, as strict as `parse_json`; those that are Bundles keep their resources as bytes.

    Only a number beyond any float is left to the reader of its resource. Raises MalformedRequestError.
    """
    check_depth(text, levels)
    try:
        check_utf8(text)
        members = {name: bytes(value) for name, value in _MEMBERS.decode(text).items()}
    except (InvalidInputError, msgspec.DecodeError):
        return parse_object(text)
    around = _around(members.values(), text)
    if around is None:
        return parse_object(text)
    parse_object(around)
    return {name: _strict_member(value) for name, value in members.items()}


def _strict_member(text: bytes) -> Any:
    bundle = unread(text)
    doubtful: list[bytes] = []
    around = None if bundle is None else _around(_examined(bundle, doubtful), text)
    found = parse_value(text if around is None else around)
    if any(map(_ambiguous, doubtful)):
        raise duplicate_key()
    return found if around is None else bundle


def _examined(bundle: Bundle, doubtful: list[bytes]) -> Iterator[bytes]:
    """Every resource of a Bundle; those with a form that is not known to be free of duplicates go to `doubtful`."""
    for resource in bundle.resources:
        if hash(resource.translate(None, _NUMBERS)) not in _unambiguous_forms or b"\\" in resource:
            doubtful.append(resource)
        yield resource


def _around(pieces: Iterable[bytes], text: bytes) -> bytes | None:
    """The text with 0 in place of each object among these pieces of it; None if they are not found in this order.

    No string can contain the beginning of an object, an unescaped quotation mark before a letter, so a match is an
    object. Text that repeats between pieces is kept twice: once after and once before a piece.

    >>> _around([b'{"x": 1}'] * 4, b'[{"a": {"x": 1}}, {"a": {"x": 1}}, {"a": {"x": 1}}, {"a": {"x": 1}}]')
    b'[{"a": 0}, {"a": 0}, {"a": 0}]'
    """
    kept: list[bytes] = []
    at, before, gap = 0, b"", b""
    for piece in pieces:
        again = at + len(gap)
        if gap == before and text.startswith(gap, at) and text.startswith(piece, again):
            at = again + len(piece)
            continue
        if _OBJECT.match(piece) is None:
            continue
        start = text.find(piece, at)
        if start < 0:
            return None
        before, gap = gap, text[at:start]
        kept += (gap, b"0")
        at = start + len(piece)
    return b"".join((*kept, text[at:]))


# Resources repeat the same form with other numbers, dates and ids. The form is the text without these characters. It
# has every member name, only shortened: if the names in each object of a form differ, they differ in all texts of that
# form. Texts with a backslash are excluded, as an escape may spell a name differently.
_NUMBERS = b"0123456789abcdef-."
_MOST_FORMS = 100_000
_unambiguous_forms: set[int] = set()
"""Hashes of the forms without duplicate names; nothing else of a patient's resources is kept."""


def _ambiguous(text: bytes) -> bool:
    """Whether an object in this JSON has duplicate names; if not, its form is remembered."""
    value = decode_json(text)
    if has_duplicate_keys(text, value):
        return True
    if b"\\" not in text and _names_differ(value):
        if len(_unambiguous_forms) >= _MOST_FORMS:
            _unambiguous_forms.clear()
        _unambiguous_forms.add(hash(text.translate(None, _NUMBERS)))
    return False


def _names_differ(value: Any) -> bool:
    """Whether the names in each object differ also in their forms.

    >>> _names_differ([{"code": 1, "id": 2}]), _names_differ({"x": {"a1": 1, "a2": 2}})
    (True, False)
    """
    if isinstance(value, list):
        return all(map(_names_differ, value))
    if not isinstance(value, dict):
        return True
    forms = {name.encode().translate(None, _NUMBERS) for name in value}
    return len(forms) == len(value) and all(map(_names_differ, value.values()))
