"""Converts a Composition to text: narrative under section titles, else the entries or the empty reason.

FHIR R4 Composition (https://hl7.org/fhir/R4/composition.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_mapping.core.times import parse_instant, reachable
from fhir_mapping.notes.attachments import MAX_BYTES, AttachmentReader, joined
from fhir_mapping.notes.formats.converted import Converted, Heading, UnreadableError, cut
from fhir_mapping.notes.formats.detection import Format
from fhir_mapping.notes.formats.plain import clean
from fhir_mapping.parsing.references import Ownership
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.terminology.codes import LOINC, codings, text_of

MAX_DEPTH = 12
MAX_ENTRIES = 200
_TIMES = ("recordedDate", "authoredOn", "effectiveDateTime", "performedDateTime", "issued", "date", "onsetDateTime")
_NAMES = ("code", "medicationCodeableConcept", "vaccineCode", "type", "medication")


@dataclass(frozen=True, slots=True)
class CompositionReader:
    """CompositionReader(attachments, "Patient/p1", prediction_time).read(resource) -> Converted"""

    attachments: AttachmentReader
    patient: str
    prediction_time: datetime

    def read(self, composition: Resource) -> Converted:
        """Returns the text. An unreadable section is replaced by a remark, and the warning is set.

        Raises UnreadableError with the first section's reason if no section could be read, `empty` without text.
        """
        total, failures = Converted(""), []
        for level, section in [(0, composition), *_sections(composition, 1)]:
            try:
                body = self._body(section, level, composition)
            except UnreadableError as error:
                failures.append(error.reason)
                body = Converted("[this section could not be read]")
            part = _titled(section, level, body)
            total = joined(total, part) if part.text else total
            if len(total.text) > 2 * MAX_BYTES:
                break
        if failures and not total.text.replace("[this section could not be read]", "").strip():
            raise UnreadableError(failures[0])
        if not total.text:
            raise UnreadableError("empty")
        return cut(
            Converted(
                total.text,
                total.headings,
                total.warning or ("section-unreadable" if failures else None),
            )
        )

    def _body(self, section: Resource, level: int, composition: Resource) -> Converted:
        """Returns the narrative; without one the entries; without entries the empty reason."""
        narrative = section.get("text")
        div = narrative.get("div") if isinstance(narrative, dict) else None
        if level == 0 and isinstance(section.get("section"), list):
            return Converted("")  # the resource's own narrative repeats its sections
        if isinstance(div, str) and div.strip():
            if len(div) > MAX_BYTES:
                raise UnreadableError("too-large")
            found = self.attachments.convert(Format.HTML, div.encode("utf-8", "replace"), "utf-8")
            if found.text:
                return found
        entries = "\n".join(self._entries(section, composition))
        empty_reason = text_of(section.get("emptyReason"))
        return Converted(entries or (f"[{clean(empty_reason)}]" if empty_reason else ""))

    def _entries(self, section: Resource, composition: Resource) -> Iterator[str]:
        for reference in _list(section.get("entry"))[:MAX_ENTRIES]:
            if isinstance(reference, dict):
                title_text = reference.get("display")
                name = title_text if isinstance(title_text, str) and title_text else self._named(reference, composition)
                if name:
                    yield f"- {' '.join(clean(name).split())}"

    def _named(self, reference: dict[str, Any], composition: Resource) -> str:
        """Returns the name of an entry if it belongs to the patient, is valid, and was known at the prediction time.

        A contained resource without a subject is about the subject of the Composition.
        """
        found = self.attachments.directory.resolve(reference, composition)
        if found is None or found.get("status") == "entered-in-error":
            return ""
        inside = str(reference.get("reference")).startswith("#")
        subject = found.get("subject") or found.get("patient") or (composition.get("subject") if inside else None)
        if self.attachments.directory.ownership(subject, self.patient) is not Ownership.OURS:
            return ""
        times = [parse_instant(found.get(name)) for name in _TIMES]
        if any(time is not None and not reachable(time, self.prediction_time) for time in times):
            return ""
        return next((text for text in (text_of(found.get(name)) for name in _NAMES) if text), "")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sections(parent: Resource, level: int) -> Iterator[tuple[int, Resource]]:
    for section in _list(parent.get("section")):
        if isinstance(section, dict):
            yield level, section
            if level < MAX_DEPTH:
                yield from _sections(section, level + 1)


def _titled(section: Resource, level: int, body: Converted) -> Converted:
    """Returns a section with its title; one with neither text nor subsections is left out."""
    if level == 0 or not (body.text or section.get("section")):
        return body
    title_text = section.get("title")
    title = title_text if isinstance(title_text, str) and title_text.strip() else text_of(section.get("code"))
    title = " ".join(clean(title).split())
    if not title:
        return body
    code = next((c.code for c in codings(section.get("code")) if c.system == LOINC), None)
    inner = tuple(Heading(h.title, h.start, h.level + level, h.code) for h in body.headings)
    head = Converted(title, (Heading(title, 0, level, code),))
    return joined(head, Converted(body.text, inner, body.warning), "\n") if body.text else head
