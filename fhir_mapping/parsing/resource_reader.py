"""Reads a Bundle, one resource, a list of resources, or NDJSON from bytes, as strict JSON.

Half of a seven-megabyte chart is claims, provenance and results that no feature uses. So the whole input is checked as
JSON once, but a resource is decoded only on first use (`ResourceEntry.resource`). Nothing is validated against the FHIR
schema here, which takes seconds on a real chart; each reader of a resource type checks the elements it uses.
"""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import replace

import msgspec

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.parsing.bundles import Bundle, decoded, read_bundle, unread
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.entries import ParsedInput, ResourceEntry, named, source_of

__all__ = [
    "Bundle",
    "ParsedInput",
    "Resource",
    "ResourceEntry",
    "check_utf8",
    "named",
    "read_bundle",
    "read_bytes",
    "source_of",
    "unread",
]  # fmt: skip

_ARRAY = re.compile(rb"\s*\[")
_BOM = b"\xef\xbb\xbf"
_CHUNK = 2**20
_JSON = msgspec.json.Decoder(msgspec.Raw)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def read_bytes(raw: bytes | str) -> ParsedInput:
    """Returns the entries of a Bundle, a resource, a list or NDJSON.

    Raises InvalidInputError, with the position, for anything else: invalid JSON (NaN and infinities are invalid), a
    root that is not an object or list, an entry that is not a resource.
    """
    data = raw.encode() if isinstance(raw, str) else bytes(raw)
    data = data.removeprefix(_BOM)
    if not data or data.isspace():
        raise InvalidInputError("the input is empty; expected a FHIR Bundle, a list of resources, or NDJSON")
    check_utf8(data)
    try:
        return _from_root(data)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"not a Bundle, a list of resources or NDJSON: {error}") from None
    except msgspec.DecodeError as error:
        lines = _read_ndjson(data)
        if lines is None:
            raise _not_json(error, len(data)) from None
        return lines
    except RecursionError:
        raise InvalidInputError("not valid JSON: nested too deep") from None


def check_utf8(data: bytes) -> None:
    """Raises InvalidInputError, with the position, if the bytes are not UTF-8; strings not in use are never decoded."""
    if data.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    for start in range(0, len(data), _CHUNK):
        try:
            decoder.decode(view[start : start + _CHUNK], final=start + _CHUNK >= len(data))
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                "not valid JSON: the bytes are not UTF-8", position=f"about byte {start + error.start}"
            ) from None


def _not_json(error: msgspec.DecodeError, size: int) -> InvalidInputError:
    """Returns our error for one of msgspec, which ends in `(byte 12)` or reports that the input was truncated."""
    message, _, place = str(error).removeprefix("JSON is malformed: ").partition(" (byte ")
    return InvalidInputError(f"not valid JSON: {message}", position=f"byte {place.rstrip(')') or size}")


def _read_ndjson(data: bytes) -> ParsedInput | None:
    """Returns the entries of NDJSON, or None if the first line is not JSON by itself (the other error says more)."""
    parts: list[ParsedInput] = []
    for number, line in enumerate(io.BytesIO(data), start=1):
        if line.isspace():
            continue
        try:
            _JSON.decode(line)
        except msgspec.DecodeError as error:
            if not parts:
                return None
            raise InvalidInputError(f"not valid JSON: {error}", position=f"line {number}") from None
        entry = _entry(line, f"line {number}")
        bundle = entry.kind == "Bundle"
        parts.append(read_bundle(decoded(line), name=f"line {number}") if bundle else ParsedInput((entry,)))
    return replace(ParsedInput.merged(parts), population=True)


def _from_root(data: bytes) -> ParsedInput:
    if _ARRAY.match(data) is None:
        return _bundle_or_resource(data, "root")
    return ParsedInput.merged(_bundle_or_resource(item, f"[{n}]") for n, item in enumerate(_LIST.decode(data)))


def _bundle_or_resource(raw: msgspec.Raw | bytes, position: str) -> ParsedInput:
    """Returns the entries of a Bundle, or of a single resource."""
    entry = _entry(raw, position)
    if entry.kind == "Bundle":
        return read_bundle(decoded(raw), name="Bundle")
    _JSON.decode(raw)
    return ParsedInput((entry,))


def _entry(raw: msgspec.Raw | bytes, position: str) -> ResourceEntry:
    try:
        return ResourceEntry(raw)
    except InvalidInputError as error:
        raise InvalidInputError(str(error), position=position) from None
