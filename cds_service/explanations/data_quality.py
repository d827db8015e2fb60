"""Data quality behind an estimate: missing, outdated, refused and unfetched inputs. Unknown is never normal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cds_service.cards.missing import OLD, missing_inputs
from cds_service.cards.wording import counted, lower_first, outcome_name
from cds_service.explanations.formatting import describe_reason, format_age
from fhir_mapping import PatientRecord
from fhir_mapping.terminology import definitions
from risk_model import Assessment, RiskModel
from risk_model.features import concept_of

# Hours after which the last value of a stay is outdated: a round of vital signs; daily laboratory tests and a night.
STALE_HOURS = {"vital sign": 12.0, "laboratory": 36.0}
# Values that hardly change during a stay are never outdated.
_SLOW = frozenset({"weight", "height"})
SHOWN = 12
# Why an input is missing; the other codes say so themselves (docs/reasons.md).
_MISSING = {
    "": "not recorded in the past 24 hours",
    "none-found": "never measured",
    "not-fetched": "not available to this service",
    "outside-window": "not measured in this stay",
    "not-coded": "not recorded",
    "no-stay": "no stay",
    "unknown": "not recorded",
}
# What a clinician reads of data that were not used: (noun, rest), with the count before them.
_NOT_USED = {
    "more-notes-than-read": ("older note", "not read"),
    "same-note-again": ("duplicate note", ""),
    "note-unreadable": ("note", "unreadable"),
    "note-not-fetched": ("note", "not available to this service"),
    "implausible": ("implausible value", ""),
    "censored": ("value", "given only as a bound such as <5"),
    "data-absent": ("value", "recorded as absent"),
    "no-value": ("item", "without a value"),
    "no-unit": ("value", "without a unit"),
    "unit-conflict": ("value", "with an unclear unit"),
    "unit-not-understood": ("value", "with an unknown unit"),
    "pressure-inverted": ("blood pressure", "with systolic not above diastolic"),
    "same-time-other-value": ("value", "replaced by another of the same time"),
    "other-method-used": ("cuff pressure", "replaced by an arterial line pressure"),
    "code-not-mapped": ("item", "with an unrecognised code"),
    "family-history": ("item", "about a family member"),
    "not-confirmed": ("item", "recorded as unconfirmed"),
    "no-time": ("item", "without a usable time"),
}


@dataclass(frozen=True, slots=True)
class Missing:
    """Inputs that are missing for one reason and used by the same models or scores."""

    names: tuple[str, ...]
    reason: str
    used_by: str


@dataclass(frozen=True, slots=True)
class Stale:
    name: str
    age: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Entries that were read and not used, by reason; `examples` are ids or the mapper's details, never content."""

    words: str
    code: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    missing: tuple[Missing, ...]
    stale: tuple[Stale, ...]
    refused: tuple[Refused, ...]
    not_fetched: tuple[str, ...]
    notes_read: int
    notes_unreadable: int
    notes_unread: tuple[str, ...]
    """A line for each reason for which notes were not read, or not to their end."""
    known: tuple[tuple[str, int, int], ...]
    """(task, inputs known, inputs of the model)."""
    timings: tuple[tuple[str, str, float], ...]
    """(task, step, milliseconds)."""

    @property
    def missing_count(self) -> int:
        return sum(len(missing.names) for missing in self.missing)

    @property
    def faults(self) -> int:
        return self.missing_count + len(self.stale) + len(self.refused) + len(self.not_fetched)


def quality(assessments: Sequence[Assessment], record: PatientRecord, models: Sequence[RiskModel]) -> Quality:
    findings = assessments[0].findings
    concepts = {concept_of(name) for model in models for name in model.names}
    return Quality(
        missing=_missing(assessments, record),
        stale=_stale(record, concepts),
        refused=_refused(record),
        not_fetched=tuple(sorted(record.not_fetched)),
        notes_read=findings.notes_read,
        notes_unreadable=findings.notes_unreadable,
        notes_unread=findings.unread_in_words(),
        known=tuple(
            (outcome_name(a.estimate.asked), sum(value == value for value in a.estimate.inputs), len(a.estimate.inputs))
            for a in assessments
        ),
        timings=tuple((outcome_name(a.estimate.asked), step, took) for a in assessments for step, took in a.timings),
    )


def _missing(assessments: Sequence[Assessment], record: PatientRecord) -> tuple[Missing, ...]:
    """The missing inputs of models and scores, grouped by reason and by what uses them."""
    users: dict[tuple[str, str], list[str]] = {}
    for assessment in assessments:
        for item in missing_inputs(assessment.estimate, record):
            reason = OLD if item.old else _MISSING.get(item.code) or describe_reason(item.code)
            users.setdefault((item.name, reason), []).append(item.by or outcome_name(assessment.estimate.asked))
    grouped: dict[tuple[str, str], list[str]] = {}
    for (name, reason), by in users.items():
        grouped.setdefault((reason, ", ".join(dict.fromkeys(by))), []).append(name)
    return tuple(Missing(tuple(names), reason, by) for (reason, by), names in grouped.items())


def _stale(record: PatientRecord, concepts: set[str]) -> tuple[Stale, ...]:
    """The inputs whose last value is older than STALE_HOURS, oldest first."""
    newest = {m.concept: m.time for m in sorted(record.measurements, key=lambda m: m.time)}
    since = record.current_stay.start if record.current_stay else None
    found = []
    for concept in definitions().concepts.values():
        last = newest.get(concept.name)
        if concept.name not in concepts - _SLOW or last is None or (since is not None and last < since):
            continue
        hours = (record.prediction_time - last).total_seconds() / 3600
        if hours > STALE_HOURS[concept.group]:
            found.append((hours, concept.label))
    return tuple(Stale(label, format_age(hours)) for hours, label in sorted(found, reverse=True))


def _refused(record: PatientRecord) -> tuple[Refused, ...]:
    refused = [refusal for refusal in record.refused if refusal.reason != "not-fetched"]
    counts = Counter(refusal.reason for refusal in refused)
    return tuple(
        Refused(
            not_used_words(code, count),
            code,
            count,
            tuple(_example(r.source, r.detail) for r in refused if r.reason == code)[:SHOWN],
        )
        for code, count in counts.most_common()
    )


def not_used_words(code: str, count: int) -> str:
    """
    >>> not_used_words("more-notes-than-read", 20), not_used_words("status-on-hold", 1)
    ('20 older notes not read', '1 item: on hold')
    """
    if code in _NOT_USED:
        noun, rest = _NOT_USED[code]
        return f"{counted(count, noun)} {rest}".strip()
    return f"{counted(count, 'item')}: {lower_first(describe_reason(code))}"


def _example(source: str, detail: str | None) -> str:
    return f"{source}: {detail}" if detail else source
