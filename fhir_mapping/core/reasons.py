"""The table of reason codes: why a resource is not used or a feature is unknown. `docs/reasons.md` shows it.

`refused` and `unknown` of `riskcards map --json` hold these codes and no others. The codes are stable. *Not fetched*
(not requested, or the answer was incomplete), *none found* (requested, and there is none) and *refused* (there is one
that may not be used) are three different states.
"""

from __future__ import annotations

from typing import Any

GROUPS = {
    "input": {
        "not-fetched": "Not requested, or the answer was null, empty, an error, or incomplete",
        "operation-outcome": "The server returned an error, not a resource; the resource type counts as incomplete",
        "more-pages": "The searchset has a next page that was not fetched; the resource type counts as incomplete",
        "truncated": "The searchset holds fewer matches than its total; the resource type counts as incomplete",
        "entry-without-resource": "A Bundle entry without a resource",
        "deleted": "Deleted; earlier versions in the input are not used",
        "encounter-not-found": "The requested encounter is not among the usable ones",
    },
    "patient": {
        "subject-unprovable": "Nothing proves that the subject is this patient: only a display, a urn without its "
        "entry, or a relative reference from another server",
        "subject-not-a-patient": "The subject is a group, a device or a location",
        "focus-is-somebody-else": "Recorded in this chart but about another person, such as the newborn",
    },
    "meaning": {
        "modifier-extension": "A modifierExtension that is not supported may change the meaning",
        "implicit-rules": "The resource has implicitRules, which are not supported",
        "no-status": "The status is missing",
        "status-not-understood": "The status is not a FHIR status code",
        "status-cancelled": "Cancelled",
        "status-discontinued": "Discontinued",
        "status-draft": "A draft",
        "status-entered-in-error": "Entered in error",
        "status-not-done": "Not done",
        "status-not-taken": "Not taken",
        "status-on-hold": "On hold",
        "status-planned": "Planned, not carried out",
        "status-preliminary": "Preliminary, and this site uses final values only",
        "status-preparation": "In preparation, not started",
        "status-registered": "Registered, no result yet",
        "status-specimen-in-process": "The specimen is still in process",
        "status-unknown": "The status is unknown",
        "verification-entered-in-error": "The condition was entered in error",
        "verification-refuted": "The condition was refuted",
        "verification-provisional": "A provisional diagnosis is not confirmed",
        "verification-differential": "One of several differential diagnoses",
        "verification-unconfirmed": "Not confirmed",
        "not-confirmed": "The code or text says suspected, possible, ruled out or at risk",
        "family-history": "Family history, not a condition of the patient",
        "stated-none": "States that there is none, such as no known problems",
        "no-information": "States that nothing is known; without others of its kind, their number is unknown",
        "do-not-perform": "An order not to give the drug",
        "intent-proposal": "A proposal, not an order",
        "intent-plan": "A plan, not an order",
        "intent-option": "An option, not an order",
        "no-code": "Neither a code nor a text",
        "medication-not-found": "The medication reference does not resolve in the input",
        "codes-disagree": "Its codings, or its code and its text, mean different things, or one narrows the other",
        "code-not-mapped": "Coded only in systems that are not supported; a site map file can translate local codes "
        "(detail: how many, of which system)",
        "code-not-understood": "The code is not one of those supported here",
        "no-class": "The encounter has no class: whether it is an inpatient stay is unknown",
        "class-not-understood": "The class of the encounter is not one of those supported here, so whether it is an "
        "inpatient stay is unknown; a site map can translate it (detail: the class)",
        "other-encounter": "Made in another visit during the stay, such as a clinic appointment",
        "several-subjects": "It names several subjects, and which of them it is about is unknown",
    },
    "time": {
        "no-time": "No usable time",
        "no-start": "The encounter has no start",
        "no-end": "The encounter has ended without an end time: no length of stay",
        "period-reversed": "The period ends before it starts: no length of stay",
        "time-without-zone": "A time without a zone: read as UTC, used only if it is past in every zone, and flagged",
        "time-not-understood": "Not a FHIR date or time",
        "death-without-time": "Recorded as dead without a time",
        "death-time-imprecise": "The date of death is too imprecise to be before or after the prediction time",
        "imprecise": "Too imprecise to determine the value",
        "encounter-not-over": "Without a date, and its encounter had not ended at the prediction time: perhaps written "
        "later",
        "status-of-later": "Only the status when the data were read is known, not that at the prediction time",
        "outside-window": "Measured, but outside the time window of the feature",
    },
    "value": {
        "none-found": "Requested, and there is none",
        "no-value": "No value",
        "data-absent": "Recorded as absent (data-absent-reason)",
        "value-and-absent-reason": "Both a value and a data-absent-reason",
        "several-values": "More than one value[x]",
        "value-not-a-number": "Text, a ratio, a range, a series, or not a finite number",
        "censored": "Only a bound such as <5",
        "sentinel": "A placeholder such as 9999",
        "implausible": "Outside the plausible range in the stated unit; the unit is not guessed",
        "no-unit": "No unit, and the code does not fix one",
        "unit-conflict": "Unit and unit code contradict each other",
        "unit-not-understood": "The unit does not measure this concept",
        "specimen-conflict": "The specimen is not the one the code specifies",
        "body-site-conflict": "Measured at a body site where it is another quantity, such as the pulmonary artery",
        "pressure-inverted": "The systolic pressure is not above the diastolic pressure",
        "same-time-other-value": "Another value with the same time was used: the later issued, else the greater id",
        "other-method-used": "A pressure with the same time by the reference method (arterial line) was used",
        "later-status-won": "A corrected or final value with the same time was used",
        "not-coded": "Not coded in the stay",
        "not-yet": "The stay has not ended",
        "no-stay": "No inpatient stay at the prediction time",
    },
    "notes": {
        "note-unreadable": "The note cannot be read (detail: see below)",
        "note-not-fetched": "The note's text is at a URL and was not fetched",
        "note-incomplete": "A part of the note is missing (detail: see below)",
        "note-without-time": "The note has no time and may be later than the prediction time",
        "attachment-unreadable": "One of several formats of the note cannot be read; another was (detail: see below)",
        "same-note-again": "A duplicate of a note that was read, in the same or another format",
        "more-notes-than-read": "Beyond the limit on the number of notes; the newest are read",
        "superseded": "Replaced by a newer document",
        "status-deprecated": "Deprecated",
        "status-superseded": "Superseded by a newer document",
    },
}
# Why a note is unreadable or incomplete: `reason` of a Note, `detail` of its Refusal.
NOTE_REASONS = {
    "no-attachment": "No attachment",
    "no-data": "The attachment is empty",
    "empty": "It contains no text",
    "too-large": "Larger than the size limit",
    "too-deep": "Nested deeper than the limit",
    "hash-disagrees": "The bytes do not match the attachment's hash",
    "size-disagrees": "The bytes do not match the attachment's size",
    "base64-invalid": "The data are not valid base64",
    "not-text": "Declared as text, but binary",
    "type-disagrees": "The bytes are not of the declared content type",
    "format-not-supported": "A format that is not supported",
    "url-not-fetched": "The text is at a URL that was not fetched",
    "url-of-unknown-server": "A Binary with this id is in the input, but it is not known to be from the URL's server",
    "url-is-no-binary": "The URL returned a resource that is not a Binary",
    "xml-doctype": "An XML document with a DOCTYPE or entities",
    "xml-invalid": "Not well-formed XML",
    "xml-not-cda": "An XML document that is not CDA",
    "cda-body-elsewhere": "The body of the CDA document is in another file",
    "pdf-encrypted": "An encrypted PDF",
    "pdf-damaged": "A damaged PDF",
    "pdf-without-text": "A PDF without text, such as a scan",
    "pdf-pages-without-text": "Some pages of the PDF have no text",
    "section-unreadable": "A section of the document could not be read",
    "text-cut": "Longer than the limit; the rest was cut off",
    "time-limit": "The conversion took too long",
    "memory-limit": "The conversion needed too much memory",
    "record-time-spent": "The conversion time for all notes of the record was used up",
    "converter-busy": "The converter was busy",
    "converter-crashed": "The converter crashed on this note",
    "converter-unavailable": "The converter could not be started",
}
REASONS: dict[str, str] = {reason: meaning for group in GROUPS.values() for reason, meaning in group.items()}


def status_reason(status: Any) -> str:
    """Returns the reason code of a status that may not be used; never text from the input.

    >>> status_reason("cancelled"), status_reason(None), status_reason("Bob")
    ('status-cancelled', 'no-status', 'status-not-understood')
    """
    if status is None:
        return "no-status"
    reason = f"status-{status}" if isinstance(status, str) else ""
    return reason if reason in REASONS else "status-not-understood"


def table() -> str:
    """Returns all reason codes as Markdown tables, as in `docs/reasons.md`."""
    lines = []
    for group, reasons in GROUPS.items():
        lines += [f"## {group.capitalize()}", "", "| reason | meaning |", "|---|---|"]
        lines += [f"| `{reason}` | {meaning} |" for reason, meaning in reasons.items()]
        lines.append("")
    lines += ["## Why a note cannot be read", "", "| detail | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in NOTE_REASONS.items()]
    return "\n".join(lines) + "\n"
