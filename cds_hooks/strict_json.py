"""Strict JSON: depth is checked before parsing, duplicate keys are rejected, the prefetch can be left unparsed.

Most of a hook request is its prefetch, and an EHR that fires a hook again sends the same prefetch again.
`split_prefetch` takes it out of the body without parsing it, so that a service may look up its hash in a cache.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import numpy as np
import orjson

from cds_hooks.errors import HookError, MalformedRequestError

MAX_DEPTH = 64
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEP = bytes.maketrans(b'[{]}"', b"\x01\x01\xff\xff\x00")  # what each adds to the depth, as int8
_ESCAPED_COLON = re.compile(rb"\\u003a", re.IGNORECASE)

_MEMBER = re.compile(rb'"prefetch"[ \t\r\n]*:[ \t\r\n]*(?=\{)')
# Members that may follow the prefetch in a request.
_SIBLING = re.compile(rb'"(?:hook|hookInstance|fhirServer|fhirAuthorization|context|extension)"[ \t\r\n]*:')
_EDGE_BYTES = 16_384
_MAX_TRIES = 20


def parse_json(body: bytes, levels: int = MAX_DEPTH) -> dict[str, Any]:
    """The JSON object in a body. NaN, duplicate keys, invalid UTF-8 and more than `levels` of nesting are rejected.

    Raises MalformedRequestError.

    >>> parse_json(b'{"a": 1}')
    {'a': 1}
    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    cds_hooks.errors.MalformedRequestError: an object names the same member twice
    """
    check_depth(body, levels)
    return parse_object(body)


def check_depth(body: bytes, levels: int = MAX_DEPTH) -> None:
    """Raises MalformedRequestError for JSON nested deeper than `levels`, without parsing it."""
    if _depth(body) > levels:
        raise MalformedRequestError("structure", f"the JSON nests deeper than {MAX_DEPTH} levels")


def parse_object(text: bytes) -> dict[str, Any]:
    """As `parse_json`, for text of checked depth. Raises MalformedRequestError."""
    value = parse_value(text)
    if not isinstance(value, dict):
        raise MalformedRequestError("structure", "the body must be one JSON object")
    return value


def parse_value(text: bytes) -> Any:
    """Any JSON value without duplicate keys. Raises MalformedRequestError."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError("structure", f"not valid JSON: {error.msg} at byte {error.pos}") from None
    if has_duplicate_keys(text, value):
        raise duplicate_key()
    return value


def duplicate_key() -> MalformedRequestError:
    """The error for an object that names the same member twice."""
    return MalformedRequestError("structure", "an object names the same member twice")


def _depth(text: bytes) -> int:
    r"""Deepest nesting of JSON, 127 for anything deeper; brackets in strings do not count.

    >>> _depth(rb'{"a]\"": [1, "[[\\"], "b": "\\\"{"}')
    2
    """
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    steps = np.frombuffer(text.translate(_STEP, _NOT_STRUCTURE), dtype=np.int8)
    inside = np.bitwise_xor.accumulate((steps == 0).view(np.int8))
    depth = np.cumsum(steps * (inside ^ 1), dtype=np.int8)
    return int(depth.max(initial=0))  # 127 is reached before the sum overflows


def has_duplicate_keys(text: bytes, value: Any) -> bool:
    r"""Whether the parser, which silently keeps the last of two equal keys, has dropped one.

    Then the parsed value has fewer colons than the text: a colon has no other form, except the escape \u003a.

    >>> texts = (rb'{"a:": "\u003a", "b" :2}', b'{"a": {"b": 1, "b": 2}}')
    >>> [has_duplicate_keys(text, orjson.loads(text)) for text in texts]
    [False, True]
    """
    escaped = len(_ESCAPED_COLON.findall(text)) if b"\\u" in text else 0
    if not escaped:
        return orjson.dumps(value).count(b":") != text.count(b":")
    return _outside_strings(orjson.dumps(value)).count(b":") != _outside_strings(text).count(b":")


def _outside_strings(text: bytes) -> bytes:
    r"""JSON without its strings.

    >>> _outside_strings(rb'{"a:\"": [1, "b\\"], "c" : 2}')
    b'{: [1, ],  : 2}'
    """
    return b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def split_prefetch(body: bytes) -> tuple[dict[str, Any], bytes] | None:
    """(the request without its prefetch, the bytes of the prefetch), or None if a quick search cannot split them.

    A wrong split is detected: the prefetch is replaced by an unguessable mark, and the rest must be strict JSON with
    that mark as its member `prefetch`. If the bytes cut out then parse as one object, the split was right.

    >>> split_prefetch(b'{"hook": "h", "prefetch": {"a": {}}, "context": {}}')
    ({'hook': 'h', 'context': {}}, b'{"a": {}}')
    """
    found = _MEMBER.search(body, 0, _EDGE_BYTES)
    if found is None:
        return None
    start, mark = found.end(), secrets.token_hex(16)
    for end in _possible_ends(body, start):
        try:
            rest = parse_json(body[:start] + b'"' + mark.encode() + b'"' + body[end:])
        except HookError:
            continue
        if rest.pop("prefetch", None) == mark:
            return rest, body[start:end]
    return None


def _possible_ends(body: bytes, start: int) -> list[int]:
    """Possible ends of the prefetch: before a member that follows it, or before the last bracket of the body."""
    siblings = [match.start() for match in _SIBLING.finditer(body, max(start, len(body) - _EDGE_BYTES))][:_MAX_TRIES]
    brackets = [body.rfind(b"}", start, place) for place in siblings]
    last = body.rfind(b"}", start, body.rfind(b"}"))
    return [place + 1 for place in (*brackets, last) if place >= start]
