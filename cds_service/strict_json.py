"""Strict JSON, quickly: guarded before the parser, no name twice in an object; a prefetch without reading it all.

Nearly all of a hook request is its prefetch, and an EHR that fires a hook again sends the same prefetch again. So the
prefetch can be taken out of the body unread (`part`), and need not be parsed when the same bytes were parsed before.
Where it is parsed, its Bundles are checked as strictly as the rest, and their resources stay bytes (`parse_prefetch`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import orjson

from cds_service.outcome import HookError
from fhir_mapping import InvalidInputError
from fhir_mapping.elements import loads
from fhir_mapping.reading import Bundle, check_utf8, unread

MAX_DEPTH = 64
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEP = bytes.maketrans(b'[{]}"', b"\x01\x01\xff\xff\x00")  # what each adds to the depth, as int8
_SPELLED_COLON = re.compile(rb"\\u003a", re.IGNORECASE)

_MEMBER = re.compile(rb'"prefetch"[ \t\r\n]*:[ \t\r\n]*(?=\{)')
# What may stand beside the prefetch: one of them begins what follows it, when anything does.
_BESIDE = re.compile(rb'"(?:hook|hookInstance|fhirServer|fhirAuthorization|context|extension)"[ \t\r\n]*:')
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EDGE = 16_384
_OBJECT = re.compile(rb'\{[ \t\r\n]*"[A-Za-z]')
_TRIES = 20


def parse_json(body: bytes, levels: int = MAX_DEPTH) -> dict[str, Any]:
    """The JSON object in a body: strict, no name twice in one object, no deeper than `levels`.

    Raises HookError 400 for anything else, too deep ones before the parser sees them.
    """
    _guard(body, levels)
    return _strict(body)


def _guard(body: bytes, levels: int) -> None:
    if _depth(body) > levels:
        raise HookError(400, "structure", f"the JSON nests deeper than {MAX_DEPTH} levels")


def _strict(body: bytes) -> dict[str, Any]:
    value = _strict_value(body)
    if not isinstance(value, dict):
        raise HookError(400, "structure", "the body must be one JSON object")
    return value


def _strict_value(text: bytes) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise HookError(400, "structure", f"not valid JSON: {error.msg} at byte {error.pos}") from None
    if _names_twice(text, value):
        raise _twice()
    return value


def _twice() -> HookError:
    return HookError(400, "structure", "an object names the same member twice")


def _depth(text: bytes) -> int:
    r"""Deepest nesting of JSON, 127 for all beyond; brackets in strings do not count.

    >>> _depth(rb'{"a]\"": [1, "[[\\"], "b": "\\\"{"}')
    2
    """
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    steps = np.frombuffer(text.translate(_STEP, _NOT_STRUCTURE), dtype=np.int8)
    inside = np.bitwise_xor.accumulate((steps == 0).view(np.int8))
    depth = np.cumsum(steps * (inside ^ 1), dtype=np.int8)
    return int(depth.max(initial=0))  # 127 is reached before the sum turns round


def _names_twice(text: bytes, value: Any) -> bool:
    r"""Whether the parser, which keeps the last of two equal names in silence, has dropped one.

    Then fewer colons come out than went in: whatever else is written differently, no colon is, but one spelled \u003a.

    >>> [_names_twice(text, orjson.loads(text)) for text in (rb'{"a:": "\u003a", "b" :2}', b'{"a": {"b": 1, "b": 2}}')]
    [False, True]
    """
    spelled = len(_SPELLED_COLON.findall(text)) if b"\\u" in text else 0
    if not spelled:
        return orjson.dumps(value).count(b":") != text.count(b":")
    return _outside_strings(orjson.dumps(value)).count(b":") != _outside_strings(text).count(b":")


def _outside_strings(text: bytes) -> bytes:
    r"""JSON without its strings.

    >>> _outside_strings(rb'{"a:\"": [1, "b\\"], "c" : 2}')
    b'{: [1, ],  : 2}'
    """
    return b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def parse_prefetch(text: bytes, levels: int = MAX_DEPTH) -> dict[str, Any]:
    """The members of a JSON object, as strict as `parse_json`; those that are Bundles keep their resources as bytes.

    One thing is left to whoever reads a resource: a number in it beyond any float. Raises HookError 400.
    """
    _guard(text, levels)
    try:
        check_utf8(text)
        members = {name: bytes(value) for name, value in _MEMBERS.decode(text).items()}
    except (InvalidInputError, msgspec.DecodeError):
        return _strict(text)
    around = _around(members.values(), text)
    if around is None:
        return _strict(text)
    _strict(around)
    return {name: _strict_member(value) for name, value in members.items()}


def _strict_member(text: bytes) -> Any:
    bundle = unread(text)
    doubtful: list[bytes] = []
    around = None if bundle is None else _around(_looked_at(bundle, doubtful), text)
    found = _strict_value(text if around is None else around)
    if any(map(_ambiguous, doubtful)):
        raise _twice()
    return found if around is None else bundle


def _looked_at(bundle: Bundle, doubtful: list[bytes]) -> Iterator[bytes]:
    """Every resource of a Bundle; those whose form is not known to be unambiguous are also put aside."""
    for resource in bundle.resources:
        if hash(resource.translate(None, _NUMBERS)) not in _unambiguous_forms or b"\\" in resource:
            doubtful.append(resource)
        yield resource


def _around(pieces: Iterable[bytes], text: bytes) -> bytes | None:
    """The text with 0 for each object among these pieces of it, in their order; None where they are not found so.

    No string can hold the begin of one, a quotation mark before a letter: found is where an object stands. What
    stands between two pieces again and again is kept twice: once for what it ends, once for what it begins.

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


# Resources say the same thing in the same form, again and again, with other numbers, dates and ids. What these
# characters leave of a text is its form. It holds every name in its place, only shortened; so where the names of a form
# differ in every object, they differ in all texts of that form. A backslash may spell a name otherwise.
_NUMBERS = b"0123456789abcdef-."
_MOST_FORMS = 100_000
_unambiguous_forms: set[int] = set()
"""Hashes of the forms known to be so: of what patients' resources say, nothing else is kept."""


def _ambiguous(text: bytes) -> bool:
    """Whether an object in this JSON names a member twice; if not, its form is remembered."""
    value = loads(text)
    if _names_twice(text, value):
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


def part(body: bytes) -> tuple[dict[str, Any], bytes] | None:
    """(the request without its prefetch, the bytes of the prefetch), or None where a quick look cannot part them.

    Sound however the place of the cut was guessed: in the request the prefetch is replaced by a mark nobody can know,
    and the rest must be strict JSON with that mark as its member `prefetch`. If the bytes cut out are one object by
    themselves, which only `parse_json` tells, then the body is exactly the two put together.

    >>> part(b'{"hook": "h", "prefetch": {"a": {}}, "context": {}}')
    ({'hook': 'h', 'context': {}}, b'{"a": {}}')
    """
    found = _MEMBER.search(body, 0, _EDGE)
    if found is None:
        return None
    start, mark = found.end(), secrets.token_hex(16)
    for end in _ends(body, start):
        try:
            rest = parse_json(body[:start] + b'"' + mark.encode() + b'"' + body[end:])
        except HookError:
            continue
        if rest.pop("prefetch", None) == mark:
            return rest, body[start:end]
    return None


def _ends(body: bytes, start: int) -> list[int]:
    """Where the prefetch may end: before a member that stands beside it, or before the body's last bracket."""
    beside = [match.start() for match in _BESIDE.finditer(body, max(start, len(body) - _EDGE))][:_TRIES]
    brackets = [body.rfind(b"}", start, place) for place in beside]
    last = body.rfind(b"}", start, body.rfind(b"}"))
    return [place + 1 for place in (*brackets, last) if place >= start]
