"""Every reason a resource is not used or a feature is unknown: stable codes, one table (docs/reasons.md shows it).

`refused` and `unknown` of `riskcards map --json` hold these codes and no others. *Not fetched* (nobody asked, or the
answer was incomplete), *none found* (asked, and there is none) and *refused* (there is one that may not be used) are
three different things.
"""

from __future__ import annotations

from typing import Any

GROUPS = {
    "input": {
        "not-fetched": "Nobody asked, or the answer was null, empty, an error, or incomplete",
        "operation-outcome": "The server answered with an error in place of a resource; its type counts as incomplete",
        "more-pages": "The searchset has a next page that did not come; its type counts as incomplete",
        "truncated": "The searchset holds fewer matches than its total; its type counts as incomplete",
        "entry-without-resource": "A Bundle entry without a resource",
        "deleted": "Deleted: its earlier versions in the input are not used",
        "encounter-not-found": "The encounter asked for is not among the usable ones",
    },
    "whose": {
        "subject-unprovable": "Nothing proves that the subject is this patient: a display alone, a urn without its "
        "entry, another server's relative reference",
        "subject-not-a-patient": "The subject is a group, a device or a location",
        "focus-is-somebody-else": "Measured in this record but about somebody else, such as the newborn",
    },
    "meaning": {
        "modifier-extension": "A modifierExtension we do not understand may turn the meaning round",
        "implicit-rules": "implicitRules we do not know govern the resource",
        "no-status": "The status is missing",
        "status-not-understood": "The status is none of FHIR's",
        "status-cancelled": "Cancelled",
        "status-discontinued": "Discontinued",
        "status-draft": "A draft",
        "status-entered-in-error": "Entered in error",
        "status-not-done": "Not done",
        "status-not-taken": "Not taken",
        "status-on-hold": "On hold",
        "status-planned": "Planned, not happened",
        "status-preliminary": "Preliminary, and this site uses final values only",
        "status-preparation": "In preparation, not begun",
        "status-registered": "Registered, without a result yet",
        "status-specimen-in-process": "The specimen is still in process",
        "status-unknown": "The status is unknown",
        "verification-entered-in-error": "The condition was entered in error",
        "verification-refuted": "The condition was refuted",
        "verification-provisional": "A provisional diagnosis is not confirmed",
        "verification-differential": "One of several differential diagnoses",
        "verification-unconfirmed": "Not confirmed",
        "not-confirmed": "The code or text says suspected, possible, ruled out or at risk",
        "family-history": "About the family, not the patient",
        "do-not-perform": "An order not to give the drug",
        "intent-proposal": "A proposal, not an order",
        "intent-plan": "A plan, not an order",
        "intent-option": "An option, not an order",
        "no-code": "Neither code nor text says what it is",
        "medication-not-found": "The drug is named by a reference that leads to nothing in the input",
        "codes-disagree": "Its codings mean different things",
        "code-not-mapped": "Only codes of systems that are not read here; a site map file can translate local ones "
        "(detail: how many, of which system)",
        "code-not-understood": "The code is none of those allowed here",
    },
    "time": {
        "no-time": "No usable time",
        "no-start": "The encounter has no start",
        "no-end": "The encounter is over and does not say when: no length of stay",
        "period-reversed": "The period ends before it begins: no length of stay",
        "time-without-zone": "A time of day without a zone: used as UTC, only where it is certainly past, and flagged",
        "time-not-understood": "Not a FHIR date or time",
        "death-without-time": "Recorded as dead, and not when",
        "death-time-imprecise": "The date of death does not say whether it was before the prediction time",
        "imprecise": "Too imprecise to settle the value",
        "encounter-not-over": "Without a date, and its encounter was not over at the prediction time: it may have been "
        "written afterwards",
        "outside-window": "Measured, and not in the window of the feature",
    },
    "value": {
        "none-found": "Asked for, and there is none",
        "no-value": "No value",
        "data-absent": "Recorded as absent",
        "value-and-absent-reason": "A value beside a reason why there is none",
        "several-values": "More than one kind of value",
        "value-not-a-number": "Words, a ratio, a range, a series, or no finite number",
        "censored": "Only a bound such as <5",
        "sentinel": "9999 and the like: a placeholder",
        "implausible": "Outside the plausible range in the unit it claims; the unit is not guessed",
        "no-unit": "No unit, and the code does not fix one",
        "unit-conflict": "Unit and unit code disagree",
        "unit-not-understood": "The unit cannot mean this concept",
        "specimen-conflict": "The specimen is not the one the code names",
        "pressure-inverted": "The systolic pressure does not lie above the diastolic one",
        "same-time-other-value": "Another value of the same moment was used: later issued, else the greater id",
        "other-method-used": "A pressure of the same moment by the reference method (an arterial line) was used",
        "later-status-won": "A corrected or final value of the same moment was used",
        "not-coded": "The stay does not say",
        "not-yet": "The stay is still running",
        "no-stay": "No inpatient stay at this moment",
    },
    "notes": {
        "note-unreadable": "The note cannot be read (detail: why, below)",
        "note-not-fetched": "The note's text lies elsewhere and did not come",
        "note-incomplete": "A part of the note is missing (detail: why, below)",
        "note-without-time": "The note says no time and may be later than the prediction time",
        "attachment-unreadable": "One of several forms of the note cannot be read; another was (detail: why, below)",
        "same-note-again": "The same text came already, in this or another format",
        "more-notes-than-read": "Older than the newest notes we read",
        "superseded": "Replaced by a newer document",
        "status-deprecated": "Deprecated",
        "status-superseded": "Superseded by a newer document",
    },
}
# Why a note is unreadable or incomplete: `reason` of a note, `detail` of its refusal.
NOTE_REASONS = {
    "no-attachment": "It has no attachment",
    "no-data": "The attachment is empty",
    "empty": "No text came out of it",
    "too-large": "Larger than we read",
    "too-deep": "Nested deeper than we read",
    "hash-disagrees": "The bytes are not those that were hashed",
    "size-disagrees": "The bytes are not as many as it says",
    "base64-invalid": "The data are not base64",
    "not-text": "Called text, and it is none",
    "type-disagrees": "The bytes are of another type than it says",
    "format-not-supported": "A format we do not read",
    "url-not-fetched": "The text lies at a URL that was not followed",
    "url-of-unknown-server": "A Binary of this id is in the input, but nothing says that it is of the URL's server",
    "url-is-no-binary": "What came from the URL is neither a Binary nor bytes",
    "xml-doctype": "An XML document with a DOCTYPE or entities",
    "xml-invalid": "Not well-formed XML",
    "xml-not-cda": "An XML document that is no CDA",
    "cda-body-elsewhere": "The body of the CDA document lies elsewhere",
    "pdf-encrypted": "An encrypted PDF",
    "pdf-damaged": "A damaged PDF",
    "pdf-without-text": "A PDF without text: scanned",
    "pdf-pages-without-text": "Some pages of the PDF have no text",
    "text-cut": "Longer than we read; the rest was cut",
    "time-limit": "Reading it took too long",
    "memory-limit": "Reading it took too much memory",
    "record-time-spent": "The time for all notes of the record was spent",
    "converter-busy": "The converter was busy",
    "converter-crashed": "The converter crashed on it",
    "converter-unavailable": "The converter could not be started",
}
REASONS: dict[str, str] = {reason: words for group in GROUPS.values() for reason, words in group.items()}


def status_reason(status: Any) -> str:
    """The reason code of a status that may not be used; never a foreign string.

    >>> status_reason("cancelled"), status_reason(None), status_reason("Bob")
    ('status-cancelled', 'no-status', 'status-not-understood')
    """
    if status is None:
        return "no-status"
    reason = f"status-{status}" if isinstance(status, str) else ""
    return reason if reason in REASONS else "status-not-understood"


def table() -> str:
    """The table as Markdown."""
    lines = []
    for group, reasons in GROUPS.items():
        lines += [f"## {group.capitalize()}", "", "| reason | what it says |", "|---|---|"]
        lines += [f"| `{reason}` | {words} |" for reason, words in reasons.items()]
        lines.append("")
    lines += ["## Why a note cannot be read", "", "| detail | what it says |", "|---|---|"]
    lines += [f"| `{reason}` | {words} |" for reason, words in NOTE_REASONS.items()]
    return "\n".join(lines) + "\n"
