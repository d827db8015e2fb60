"""Converts attachments to text: checks the bytes, chooses one of several formats, and gives a reason on failure.

FHIR R4 Attachment (https://hl7.org/fhir/R4/datatypes.html#Attachment) and Binary.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fhir_mapping.notes.formats import plain, sandbox
from fhir_mapping.notes.formats.converted import Converted, UnreadableError, cut
from fhir_mapping.notes.formats.detection import Format, declared_format, format_of
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource

MAX_BYTES = 5_000_000
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
# Of several formats of a note the most structured one is read; plain text comes before formats made for display.
_PREFERENCE = {Format.XML: 0, Format.PLAIN: 1, Format.HTML: 2, Format.RTF: 3, Format.PDF: 4}

_BINARY = re.compile(r"://.*/(Binary/[A-Za-z0-9\-._]{1,64})\Z")

FetchAttachment = Callable[[str], bytes | Resource | None]
"""Returns the bytes or the Binary resource of an attachment's `url`; None if it may not or cannot be fetched."""


class NotFetchedError(UnreadableError):
    """The attachment is at a URL and was not fetched."""


@dataclass(slots=True)
class AttachmentReader:
    """Reads the attachments of one record: resolves Binary references and limits the total conversion time."""

    directory: Directory
    fetch: FetchAttachment | None = None
    budget: sandbox.TimeBudget = field(default_factory=sandbox.TimeBudget)

    def best(self, attachments: Sequence[Mapping[str, Any]]) -> AttachmentText:
        """Returns the text of the best readable of several formats of one note, and why others could not be read.

        Attachments in the same format are parts of one note and are joined.
        """
        if not attachments:
            return AttachmentText(failures=("no-attachment",))
        failures: list[UnreadableError] = []
        for group in _by_preference(attachments):
            parts: dict[str, tuple[Format, Converted]] = {}
            for attachment in group:
                try:
                    form, converted = self.read(attachment)
                    parts.setdefault(converted.text, (form, converted))
                except UnreadableError as error:
                    failures.append(error)
            if parts:
                form = next(iter(parts.values()))[0]
                others = tuple(n for n, attachment in enumerate(attachments) if attachment not in group)
                reasons = tuple(failure.reason for failure in failures)
                return AttachmentText(
                    _joined([part for _, part in parts.values()]), _declared(group) or form, reasons, others
                )
        reasons = tuple(failure.reason for failure in failures)
        elsewhere = all(isinstance(failure, NotFetchedError) for failure in failures)
        return AttachmentText(None, _declared(attachments), reasons, not_fetched=elsewhere)

    def read(self, attachment: Mapping[str, Any]) -> tuple[Format, Converted]:
        """Returns format and text of one attachment. Raises UnreadableError, or NotFetchedError without its bytes."""
        content_type, raw = self._bytes(attachment)
        if len(raw) > MAX_BYTES:
            raise UnreadableError("too-large")
        _check(attachment, raw)
        form = format_of(content_type, raw)
        charset = _CHARSET.search(content_type or "")
        converted = self.convert(form, raw, charset[1] if charset else None)
        if not converted.text.strip():
            raise UnreadableError("empty")
        return form, converted

    def convert(self, form: Format, raw: bytes, charset: str | None = None) -> Converted:
        """Returns the text; formats other than plain text are converted in the child process, within `budget`."""
        if form is Format.PLAIN:
            return cut(Converted(plain.decode(raw, charset)))
        return sandbox.convert(form, raw, charset, self.budget)

    def _bytes(self, attachment: Mapping[str, Any]) -> tuple[str | None, bytes]:
        """Returns media type and bytes: from `data`, a Binary in the input, or `fetch`."""
        content_type = attachment.get("contentType")
        content_type = content_type if isinstance(content_type, str) else None
        if attachment.get("data"):
            return content_type, from_base64(attachment["data"])
        url = attachment.get("url")
        if not isinstance(url, str) or not url:
            raise UnreadableError("no-data")
        found: bytes | Resource | None = self.directory.resolve({"reference": url})
        if found is None and self.fetch is not None:
            found = self.fetch(url)
        if found is None:
            binary = _BINARY.search(url)
            same_id = binary is not None and self.directory.resolve({"reference": binary[1]}) is not None
            raise NotFetchedError("url-of-unknown-server" if same_id else "url-not-fetched")
        return _content_of(found, content_type)


@dataclass(frozen=True, slots=True)
class AttachmentText:
    """The text of a note's attachments, or why there is none. `others` are positions of attachments not needed."""

    converted: Converted | None = None
    form: str | None = None
    failures: tuple[str, ...] = ()
    others: tuple[int, ...] = ()
    not_fetched: bool = False


def from_base64(data: Any) -> bytes:
    """Returns the bytes of a base64Binary; its length is checked first.

    >>> from_base64("VGly\\nZWQ=")
    b'Tired'

    Raises UnreadableError `too-large` or `base64-invalid`.
    """
    if not isinstance(data, str):
        raise UnreadableError("base64-invalid")
    if len(data) > MAX_BYTES * 3 // 2:
        raise UnreadableError("too-large")
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError):
        pass
    try:
        return binascii.a2b_base64("".join(data.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise UnreadableError("base64-invalid") from None


def _content_of(found: bytes | Resource, content_type: str | None) -> tuple[str | None, bytes]:
    """Returns media type and bytes: as fetched, or from a Binary resource, parsed or as FHIR JSON."""
    binary = _binary(found) if isinstance(found, bytes) else found
    if isinstance(found, bytes) and binary is None:
        return content_type, found
    if binary is None or binary.get("resourceType") != "Binary":
        raise UnreadableError("url-is-no-binary")
    if not binary.get("data"):
        raise NotFetchedError("url-not-fetched")
    own = binary.get("contentType")
    return content_type or (own if isinstance(own, str) else None), from_base64(binary["data"])


def _binary(raw: bytes) -> Resource | None:
    """Returns the Binary if the bytes are its JSON form, which some servers return, else None."""
    if len(raw) > 2 * MAX_BYTES or raw.lstrip()[:1] != b"{":
        return None
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) and parsed.get("resourceType") == "Binary" else None


def _check(attachment: Mapping[str, Any], raw: bytes) -> None:
    """Checks `size`, the number of bytes before base64, and `hash`, base64 of SHA-1 (also hexadecimal or SHA-256).

    Raises UnreadableError `size-disagrees` or `hash-disagrees`.
    """
    size, expected = attachment.get("size"), attachment.get("hash")
    if isinstance(size, (int, str)) and not isinstance(size, bool) and str(size) != str(len(raw)):
        raise UnreadableError("size-disagrees")
    if not isinstance(expected, str) or not expected:
        return
    for algorithm in ("sha1", "sha256"):
        digest = hashlib.new(algorithm, raw, usedforsecurity=False)
        if expected == binascii.b2a_base64(digest.digest(), newline=False).decode():
            return
        if expected.lower() == digest.hexdigest():
            return
    raise UnreadableError("hash-disagrees")


def _by_preference(attachments: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Returns attachments grouped by declared format: those with data first, then by preference."""
    groups: dict[tuple[bool, float, str], list[Mapping[str, Any]]] = {}
    for attachment in attachments:
        mime = str(attachment.get("contentType") or "").partition(";")[0].strip().lower()
        form = declared_format(mime) if mime else None
        key = (not attachment.get("data"), _PREFERENCE[form] if form else 2.5, form or mime)
        groups.setdefault(key, []).append(attachment)
    return [groups[key] for key in sorted(groups)]


def _declared(attachments: Sequence[Mapping[str, Any]]) -> str | None:
    return next((a["contentType"] for a in attachments if isinstance(a.get("contentType"), str)), None)


def _joined(parts: Sequence[Converted]) -> Converted:
    if len(parts) == 1:
        return parts[0]
    whole = Converted("")
    for part in parts:
        whole = joined(whole, part)
    return cut(whole)


def joined(first: Converted, second: Converted, gap: str = "\n\n") -> Converted:
    """Returns two texts joined, with the offsets of the headings adjusted."""
    before = first.text + gap if first.text else ""
    shifted = tuple(type(h)(h.title, h.start + len(before), h.level, h.code) for h in second.headings)
    return Converted(before + second.text, first.headings + shifted, first.warning or second.warning)
