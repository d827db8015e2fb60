"""Notes: DocumentReference, Composition and DiagnosticReport.presentedForm to plain text with sections and offsets.

What cannot be read is a `Note` that says so; it is never missing without a word.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from fhir_mapping.codes import text_of
from fhir_mapping.html_text import TooDeepError, html_to_text
from fhir_mapping.reading import Resource
from fhir_mapping.times import moment, parse_instant, reachable
from fhir_mapping.values import Instant, Note, Refusal, Section

MAX_NOTES = 50
MAX_BYTES = 5_000_000
MAX_CHARACTERS = 200_000
READ, UNREADABLE, NOT_FETCHED = "read", "unreadable", "not-fetched"

_TEXT_TYPES = frozenset({"text/plain", "text/markdown", "text/html", "application/xhtml+xml"})
_HTML = re.compile(r"\s*(<!doctype html|<html|<body|<div|<p>|<h[1-6])", re.IGNORECASE)
_HEADING = re.compile(
    r"^(?:#{1,4}[ \t]+(?P<hash>[^\n]{1,80}?)[ \t]*#*[ \t]*$"
    r"|(?P<caps>[A-Z][A-Z0-9 /&,'()-]{2,60}):"
    r"|(?P<soap>[SOAP]):(?=\s)"
    r"|(?P<line>[A-Z][A-Za-z /&'-]{2,50}):?[ \t]*$)",
    re.MULTILINE,
)
# Section names after the headings of discharge summaries and H&Ps; the first that matches names the section.
_SECTION_NAMES = (
    ("family_history", r"family (medical )?history|\bfhx?\b"),
    ("social_history", r"social history"),
    ("past_history", r"past (medical|surgical)|medical history|surgical history|problem list|^history$|comorbid"),
    ("present_illness", r"present illness|\bhpi\b|subjective|interval|^s$|history of present"),
    ("chief_complaint", r"chief complaint|reason for (visit|admission|referral)|presenting"),
    ("allergies", r"allerg"),
    ("medications", r"medication|prescri|drugs"),
    ("vital_signs", r"vital sign"),
    ("examination", r"exam|objective|^o$"),
    ("results", r"laborator|result|imaging|radiolog|finding|diagnostic"),
    ("hospital_course", r"course"),
    ("discharge_plan", r"discharge (plan|instruction|disposition|medic)|disposition|follow"),
    ("assessment", r"assess|impression|diagnos|^a$"),
    ("plan", r"plan|recommend|treatment|^p$"),
    ("procedures", r"procedure|operati"),
)


def read_notes(
    resources: Iterable[tuple[str, Resource]], prediction_time: datetime
) -> tuple[tuple[Note, ...], tuple[Refusal, ...]]:
    """Every note known by `prediction_time`, newest first, the same text once; and what was refused."""
    refused: list[Refusal] = []
    superseded, candidates = _current(resources, refused)
    dated = []
    for source, resource in candidates:
        at = _written_at(resource)
        if source in superseded:
            refused.append(Refusal(source, "superseded"))
        elif at is None or reachable(at, prediction_time):
            dated.append((None if at is None else moment(at), source, resource))
    dated.sort(key=lambda item: (item[0] is not None, item[0] or prediction_time, item[1]), reverse=True)
    notes: list[Note] = []
    seen: set[str] = set()
    for at_time, source, resource in dated:
        if len(notes) == MAX_NOTES:
            refused.append(Refusal(source, "more-notes-than-read"))
            continue
        note = _note(resource, source, at_time)
        fingerprint = _fingerprint(note.text)
        if note.status == READ and fingerprint in seen:
            refused.append(Refusal(source, "same-note-again"))
            continue
        seen.add(fingerprint)
        if note.status != READ:
            refused.append(Refusal(source, f"note-{note.status}", note.original_format))
        notes.append(note)
    return tuple(notes), tuple(refused)


def _current(
    resources: Iterable[tuple[str, Resource]], refused: list[Refusal]
) -> tuple[set[str], list[tuple[str, Resource]]]:
    superseded: set[str] = set()
    candidates = []
    for source, resource in resources:
        status, doc_status = resource.get("status"), resource.get("docStatus")
        if status in {"entered-in-error", "superseded", "cancelled"} or doc_status in {"entered-in-error", "cancelled"}:
            refused.append(Refusal(source, f"status-{status if status != 'current' else doc_status}"))
            continue
        for relation in _list(resource.get("relatesTo")):
            target = relation.get("target") or relation.get("targetReference") if isinstance(relation, dict) else None
            if isinstance(target, dict) and relation.get("code") == "replaces":
                superseded.add(str(target.get("reference")))
        if resource["resourceType"] != "DiagnosticReport" or resource.get("presentedForm"):
            candidates.append((source, resource))
    return superseded, candidates


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _written_at(resource: Resource) -> Instant | None:
    """When the note was written: `date`, a report's `issued`, else the time it is about."""
    for name in ("date", "issued", "effectiveDateTime"):
        found = parse_instant(resource.get(name))
        if found is not None:
            return found
    context = resource.get("context")
    period = context.get("period") if isinstance(context, dict) else resource.get("effectivePeriod")
    return parse_instant(period.get("end") or period.get("start")) if isinstance(period, dict) else None


def _note(resource: Resource, source: str, at: datetime | None) -> Note:
    kind = text_of(resource.get("type") or resource.get("code")) or resource["resourceType"]
    author = _author_role(resource)
    if resource["resourceType"] == "Composition":
        text, sections = _composition(resource)
        status = READ if text else UNREADABLE
        return Note(source, kind, at, text, sections, source, status, author, "text/html")
    attachments = (
        [c.get("attachment") for c in _list(resource.get("content")) if isinstance(c, dict)]
        if resource["resourceType"] == "DocumentReference"
        else _list(resource.get("presentedForm"))
    )
    text, status, original = _best(attachments)
    return Note(source, kind, at, text, tuple(find_sections(text)), source, status, author, original)


def _author_role(resource: Resource) -> str | None:
    for author in _list(resource.get("author")) or _list(resource.get("performer")):
        reference = author.get("reference") if isinstance(author, dict) else None
        if isinstance(reference, str) and "/" in reference:
            return reference.split("/")[-2].lower()
    return None


def _best(attachments: Sequence[Any]) -> tuple[str, str, str | None]:
    """Text, status and format of the first attachment that can be read; else why none could."""
    reason, original = UNREADABLE, None
    for attachment in attachments:
        if not isinstance(attachment, dict):
            continue
        declared = attachment.get("contentType")
        original = declared if isinstance(declared, str) else original
        if not attachment.get("data"):
            reason = NOT_FETCHED if attachment.get("url") else UNREADABLE
            continue
        text = _decode(attachment)
        if text is not None:
            return text[:MAX_CHARACTERS], READ, original or "text/plain"
        reason = UNREADABLE
    return "", reason, original


def _decode(attachment: dict[str, Any]) -> str | None:
    data = attachment["data"]
    if not isinstance(data, str) or len(data) > MAX_BYTES * 4 // 3 + 4:
        return None
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    expected = attachment.get("hash")
    if isinstance(expected, str) and not _hash_agrees(raw, expected):
        return None
    mime, _, parameters = str(attachment.get("contentType") or "").partition(";")
    mime = mime.strip().lower()
    if mime and mime not in _TEXT_TYPES:
        return None
    if raw.startswith((b"%PDF", b"{\\rtf", b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff")):
        return None  # the bytes say otherwise than the declared type
    text = _characters(raw, parameters)
    if text is None:
        return None
    if "html" in mime or (not mime and _HTML.match(text)):
        try:
            return html_to_text(text)
        except TooDeepError:
            return None
    return text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")


def _hash_agrees(raw: bytes, expected: str) -> bool:
    """FHIR asks for base64 of SHA-1; hexadecimal is seen in the wild."""
    digest = hashlib.sha1(raw, usedforsecurity=False)
    return expected in {base64.b64encode(digest.digest()).decode(), digest.hexdigest()}


def _characters(raw: bytes, parameters: str) -> str | None:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings: list[str] = ["utf-16"]
    else:
        declared = re.search(r"charset\s*=\s*\"?([\w.:-]+)", parameters, re.IGNORECASE)
        encodings = [declared[1]] if declared else []
        encodings += ["utf-8-sig", "windows-1252"]
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        return None if "\x00" in text else text.removeprefix("\ufeff")
    return None


def _composition(resource: Resource) -> tuple[str, tuple[Section, ...]]:
    text = ""
    sections: list[Section] = []
    for title, body in _composition_sections(resource, depth=0):
        if not body:
            continue
        start = len(text)
        text += f"{title}\n{body}\n\n" if title else f"{body}\n\n"
        if title:
            sections.append(Section(section_name(title), title, start, len(text.rstrip())))
        if len(text) > MAX_CHARACTERS:
            break
    return text.rstrip()[:MAX_CHARACTERS], tuple(sections)


def _composition_sections(holder: Resource, depth: int) -> Iterator[tuple[str, str]]:
    for section in _list(holder.get("section")):
        if not isinstance(section, dict):
            continue
        narrative = section.get("text")
        div = narrative.get("div") if isinstance(narrative, dict) else None
        title = section.get("title") if isinstance(section.get("title"), str) else text_of(section.get("code"))
        try:
            body = html_to_text(div) if isinstance(div, str) and len(div) <= MAX_BYTES else ""
        except TooDeepError:
            body = ""
        yield title or "", body
        if depth < 8:
            yield from _composition_sections(section, depth + 1)


def find_sections(text: str) -> Iterator[Section]:
    """The sections that headings in a note open; each runs to the next heading.

    >>> [(s.name, s.title) for s in find_sections("# Chief Complaint\\ncough\\n\\nPLAN: rest")]
    [('chief_complaint', 'Chief Complaint'), ('plan', 'PLAN')]
    """
    found = []
    for match in _HEADING.finditer(text):
        title = (match["hash"] or match["caps"] or match["soap"] or match["line"] or "").strip()
        name = section_name(title)
        if match["line"] and name == "other":
            continue  # a short line of prose, not a heading we know
        found.append((match.start(), title, name))
    ends = [*(start for start, _, _ in found[1:]), len(text)]
    for (start, title, name), end in zip(found, ends, strict=False):
        yield Section(name, title, start, end)


def section_name(title: str) -> str:
    """
    >>> section_name("Past Medical History")
    'past_history'
    """
    lowered = title.strip().lower()
    return next((name for name, pattern in _SECTION_NAMES if re.search(pattern, lowered)), "other")


def _fingerprint(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).casefold().encode()).hexdigest()
