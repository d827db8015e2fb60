"""Strict JSON, quickly: guarded before the parser, no name twice in an object; a body parted without reading it all.

Nearly all of a hook request is its prefetch, and an EHR that fires a hook again sends the same prefetch again. So the
prefetch can be taken out of the body unread (`part`), and need not be parsed when the same bytes were parsed before.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import numpy as np
import orjson

from cds_service.outcome import HookError

MAX_DEPTH = 64
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_QUOTE = ord('"')
_SPELLED_COLON = re.compile(rb"\\u003a", re.IGNORECASE)

_MEMBER = re.compile(rb'"prefetch"[ \t\r\n]*:[ \t\r\n]*(?=\{)')
# What may stand beside the prefetch: one of them begins what follows it, when anything does.
_BESIDE = re.compile(rb'"(?:hook|hookInstance|fhirServer|fhirAuthorization|context|extension)"[ \t\r\n]*:')
_EDGE = 16_384
_TRIES = 20


def parse_json(body: bytes, levels: int = MAX_DEPTH) -> dict[str, Any]:
    """The JSON object in a body: strict, no name twice in one object, no deeper than `levels`.

    Raises HookError 400 for anything else, too deep ones before the parser sees them.
    """
    if _depth(body) > levels:
        raise HookError(400, "structure", f"the JSON nests deeper than {MAX_DEPTH} levels")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HookError(400, "structure", f"not valid JSON: {error.msg} at byte {error.pos}") from None
    if not isinstance(value, dict):
        raise HookError(400, "structure", "the body must be one JSON object")
    if _names_twice(body, value):
        raise HookError(400, "structure", "an object names the same member twice")
    return value


def _depth(text: bytes) -> int:
    r"""Deepest nesting of JSON; brackets in strings do not count.

    >>> _depth(rb'{"a]\"": [1, "[[\\"], "b": "\\\"{"}')
    2
    """
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    structure = np.frombuffer(text.translate(None, _NOT_STRUCTURE), dtype=np.uint8)
    outside = (np.cumsum(structure == _QUOTE, dtype=np.uint8) & 1) == 0
    return int((_STEP[structure] * outside).cumsum(dtype=np.int32).max(initial=0))


def _names_twice(text: bytes, value: dict[str, Any]) -> bool:
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
