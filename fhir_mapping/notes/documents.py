"""Reads DocumentReference, Composition and DiagnosticReport.presentedForm as plain text with sections.

An unreadable note is returned as a `Note` with a status and a reason; none is left out silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fhir_mapping.core.times import moment, parse_instant, reachable
from fhir_mapping.core.values import Instant, Note, Refusal
from fhir_mapping.notes.attachments import AttachmentReader, AttachmentText, FetchAttachment, joined
from fhir_mapping.notes.compositions import CompositionReader
from fhir_mapping.notes.copied_text import DistinctNotes
from fhir_mapping.notes.formats.converted import Converted, UnreadableError, cut
from fhir_mapping.notes.formats.plain import clean
from fhir_mapping.notes.note_types import author_role, type_and_kind
from fhir_mapping.notes.sections import find_sections
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.terminology.codes import first_code

MAX_NOTES = 20
"""The number of notes read, newest first."""
MAX_EXAMINED = 3 * MAX_NOTES
"""The number of notes examined: duplicates and unreadable ones do not count towards MAX_NOTES."""
_MAX_TAG = 35  # characters of a BCP 47 tag
READ, UNREADABLE, NOT_FETCHED = "read", "unreadable", "not-fetched"
# Tuples, not sets: the input may have unhashable values here.
_NEVER = ("entered-in-error", "cancelled", "deprecated")
_PRELIMINARY = ("preliminary", "registered", "partial")


def read_notes(
    resources: Iterable[tuple[str, Resource]],
    prediction_time: datetime,
    directory: Directory,
    patient: str,
    *,
    fetch: FetchAttachment | None = None,
    undated: bool = False,
    later: frozenset[str] = frozenset(),
) -> tuple[tuple[Note, ...], tuple[Refusal, ...]]:
    """Returns the notes known at `prediction_time`, newest first, without duplicates; and the refusals.

    `patient` is the record's key (`Patient/p1`). `fetch` returns attachments at a URL. A note without any time is
    refused, as it may be later, unless `undated` states that everything in the data was known. `later` are the keys of
    later notes: they are not read, but a note they replace was still current.
    """
    refused: list[Refusal] = []
    dated = []
    for candidate in _current(_candidates(resources, refused, later), prediction_time, directory, refused, later):
        if not candidate.known_by(prediction_time, later):
            continue
        if candidate.at is None and not undated:
            refused.append(Refusal(candidate.source, "note-without-time"))
        else:
            dated.append(candidate)
    dated.sort(key=lambda c: (c.at is not None, moment(c.at) if c.at else prediction_time, c.source), reverse=True)
    reader = _Reader(AttachmentReader(directory, fetch), directory, patient, prediction_time, refused)
    kept = DistinctNotes()
    for number, candidate in enumerate(dated):
        if len(kept) >= MAX_NOTES or number >= MAX_EXAMINED:
            refused += (Refusal(c.source, "more-notes-than-read") for c in dated[number:])
            break
        note = reader.note(candidate)
        if not kept.add(note):
            refused.append(Refusal(note.source, "same-note-again"))
    return kept.notes(), tuple(refused)


@dataclass(frozen=True, slots=True)
class _Candidate:
    source: str
    resource: Resource
    at: Instant | None
    superseded: bool = False

    def known_by(self, prediction_time: datetime, later: frozenset[str]) -> bool:
        return self.source not in later and (self.at is None or reachable(self.at, prediction_time))


def _candidates(
    resources: Iterable[tuple[str, Resource]], refused: list[Refusal], later: frozenset[str]
) -> list[_Candidate]:
    found = []
    for source, resource in resources:
        status, doc_status = resource.get("status"), resource.get("docStatus")
        void = next((value for value in (status, doc_status) if value in _NEVER), None)
        if void is not None:
            if source not in later:
                refused.append(Refusal(source, f"status-{void}"))
            continue
        report = resource["resourceType"] == "DiagnosticReport"
        if not report or resource.get("presentedForm") or resource.get("conclusion"):
            found.append(_Candidate(source, resource, _written_at(resource), status == "superseded"))
    return found


def _current(
    candidates: Sequence[_Candidate],
    prediction_time: datetime,
    directory: Directory,
    refused: list[Refusal],
    later: frozenset[str],
) -> list[_Candidate]:
    """Returns the notes not superseded or replaced at `prediction_time`; one replaced by a later note was current."""
    replaced, to_be_replaced = _replaced(candidates, prediction_time, directory, later)
    kept = []
    for candidate in candidates:
        if candidate.source in later:
            kept.append(candidate)
        elif candidate.source in replaced or (candidate.superseded and candidate.source not in to_be_replaced):
            refused.append(Refusal(candidate.source, "superseded"))
        else:
            kept.append(candidate)
    return kept


def _replaced(
    candidates: Sequence[_Candidate], prediction_time: datetime, directory: Directory, later: frozenset[str]
) -> tuple[set[str], set[str]]:
    """Returns the keys replaced by a note known at `prediction_time`, and those replaced only by a later one.

    Of two notes that replace each other the newer is kept.
    """
    by_source = {candidate.source: candidate for candidate in candidates}
    now: set[str] = set()
    later_on: set[str] = set()
    for candidate in candidates:
        for target in _targets(candidate.resource, directory):
            old = by_source.get(target)
            if target == candidate.source or (old is not None and _newer(old, candidate)):
                continue
            (now if candidate.known_by(prediction_time, later) else later_on).add(target)
    return now, later_on - now


def _newer(old: _Candidate, new: _Candidate) -> bool:
    return old.at is not None and new.at is not None and old.at.earliest > new.at.latest


def _targets(resource: Resource, directory: Directory) -> Iterable[str]:
    """Yields keys a document replaces: R4 `target` or `targetReference`, R5 `code` as concept or RelatedArtifact."""
    for relation in _list(resource.get("relatesTo")):
        if not isinstance(relation, dict):
            continue
        code = relation.get("code") or relation.get("type")
        target = relation.get("target") or relation.get("targetReference") or relation.get("resourceReference")
        if (code if isinstance(code, str) else first_code(code)) == "replaces":
            key = directory.key(target)
            if key is not None:
                yield key


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _written_at(resource: Resource) -> Instant | None:
    """Returns when the note was written: `date`, `issued`, the attachment's `creation`, the time it is about, or
    `meta.lastUpdated`, by which it existed at the latest."""
    for value in (resource.get("date"), resource.get("issued")):
        found = parse_instant(value)
        if found is not None:
            return found
    return _fallback_time(resource)


def _fallback_time(resource: Resource) -> Instant | None:
    created = [parse_instant(attachment.get("creation")) for attachment in _attachments(resource)]
    known = [instant for instant in created if instant is not None]
    if known:
        return max(known, key=lambda instant: instant.latest)
    context, meta = resource.get("context"), resource.get("meta")
    period = context.get("period") if isinstance(context, dict) else None
    for value in (resource.get("effectiveDateTime"), period, resource.get("effectivePeriod"), resource.get("period")):
        found = parse_instant(value.get("end") or value.get("start") if isinstance(value, dict) else value)
        if found is not None:
            return found
    return parse_instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None


def _attachments(resource: Resource) -> list[dict[str, Any]]:
    if resource["resourceType"] == "DiagnosticReport":
        found = _list(resource.get("presentedForm"))
    else:
        found = [c.get("attachment") for c in _list(resource.get("content")) if isinstance(c, dict)]
    return [attachment for attachment in found if isinstance(attachment, dict)]


def _language(resource: Resource) -> str | None:
    """Returns the language of a document: of its attachments, where they agree, else of the resource."""
    of_parts = [attachment.get("language") for attachment in _attachments(resource)]
    tags = {tag for tag in of_parts if isinstance(tag, str) and tag.strip()}
    declared = tags.pop() if len(tags) == 1 else resource.get("language")
    return declared[:_MAX_TAG] if isinstance(declared, str) and declared.strip() else None


@dataclass(slots=True)
class _Reader:
    attachments: AttachmentReader
    directory: Directory
    patient: str
    prediction_time: datetime
    refused: list[Refusal]

    def note(self, candidate: _Candidate) -> Note:
        resource, source = candidate.resource, candidate.source
        reading = self._reading(resource)
        converted = reading.converted or Converted("")
        reason = converted.warning
        status = READ
        if reading.converted is None:
            status = NOT_FETCHED if reading.not_fetched else UNREADABLE
            reason = reading.failures[0] if reading.failures else "empty"
            self.refused.append(Refusal(source, f"note-{status}", reason))
        else:
            self.refused += (Refusal(source, "attachment-unreadable", failure) for failure in reading.failures)
        if status == READ and reason is not None:
            self.refused.append(Refusal(source, "note-incomplete", reason))
        type_text, kind = type_and_kind(resource)
        return Note(
            id=source,
            type=type_text,
            time=None if candidate.at is None else moment(candidate.at),
            text=converted.text,
            sections=find_sections(converted.text, converted.headings),
            source=source,
            status=status,
            author_role=author_role(resource, self.directory),
            original_format=reading.form,
            reason=reason,
            kind=kind,
            other_sources=tuple(f"{source}#content[{number}]" for number in reading.others),
            language=_language(resource),
            preliminary=any(value in _PRELIMINARY for value in (resource.get("status"), resource.get("docStatus"))),
        )

    def _reading(self, resource: Resource) -> AttachmentText:
        if resource["resourceType"] == "Composition":
            try:
                found = CompositionReader(self.attachments, self.patient, self.prediction_time).read(resource)
            except UnreadableError as error:
                return AttachmentText(None, "text/html", (error.reason,))
            return AttachmentText(found, "text/html")
        attachments, conclusion = _attachments(resource), resource.get("conclusion")
        if not isinstance(conclusion, str) or resource["resourceType"] != "DiagnosticReport":
            return self.attachments.best(attachments)
        return _with_conclusion(self.attachments.best(attachments) if attachments else None, clean(conclusion).strip())


def _with_conclusion(form: AttachmentText | None, conclusion: str) -> AttachmentText:
    """Returns the text of a report's form and its conclusion: both are content, and what the form repeats counts once.

    If the form cannot be read, the conclusion is the text and the form's failure stays with it.
    """
    if not conclusion:
        return form or AttachmentText(None, "text/plain", ("empty",))
    if form is None or form.converted is None:
        failures = form.failures if form else ()
        missing = Converted(conclusion, warning=failures[0] if failures else None)
        return AttachmentText(cut(missing), "text/plain", failures)
    if " ".join(conclusion.split()).casefold() in " ".join(form.converted.text.split()).casefold():
        return form
    return replace(form, converted=cut(joined(form.converted, Converted(conclusion))))
