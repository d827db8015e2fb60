"""A request's trace through the four packages, as plain values in the order of the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from cds_service.cards.wording import outcome_name
from cds_service.explanations.data_quality import Quality, quality
from cds_service.explanations.drivers import DriverView, driver_views
from cds_service.explanations.formatting import describe_reason, format_moment
from cds_service.explanations.notes import ConceptMentions, concept_mentions
from cds_service.explanations.risk_now import RiskNow, risk_now
from cds_service.hooks.request_trace import Arrived, RequestTrace
from fhir_mapping import PatientRecord
from fhir_mapping.core import format_number, format_unit
from knowledge_index import Evidence
from risk_model import TASKS, Assessment, RiskModel

SHOWN_SOURCES = 3
_PACKAGE_OF = {"read notes": "risk_model", "estimate": "risk_model", "retrieve evidence": "knowledge_index"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step, its share of the bar in percent, and the package that did it."""

    package: str
    name: str
    milliseconds: float
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class FeatureRow:
    name: str
    value: str
    unit: str
    when: str
    sources: str


@dataclass(frozen=True, slots=True)
class NoteRow:
    type: str
    when: str
    status: str
    characters: int
    sections: str


@dataclass(frozen=True, slots=True)
class RetrievalQuery:
    """One query to the index for one task, and the articles found."""

    task: str
    text: str
    concept: str
    found: str
    withheld: int


@dataclass(frozen=True, slots=True)
class TraceView:
    title: str
    service: str
    hook: str
    hook_instance: str
    size: str
    total: float
    steps: tuple[Step, ...]
    packages: tuple[tuple[str, float], ...]
    arrived: tuple[Arrived, ...]
    reused: bool
    as_of: str
    stay: str
    mapped: tuple[tuple[str, int], ...]
    features: tuple[FeatureRow, ...]
    unknown: tuple[tuple[str, int, str], ...]
    refused: tuple[tuple[str, int, str], ...]
    notes: tuple[NoteRow, ...]
    said: tuple[ConceptMentions, ...]
    reader: str
    questions: tuple[RetrievalQuery, ...]
    evidence: tuple[Evidence, ...]
    risks: tuple[RiskNow, ...]
    drivers: tuple[tuple[str, tuple[DriverView, ...]], ...]
    quality: Quality | None
    summary: str
    indicator: str
    suggestions: tuple[str, ...]
    answer: str


def trace_view(trace: RequestTrace, models: Mapping[str, RiskModel]) -> TraceView:
    """Returns everything the page prints; computed when the page is opened, not during the hook request."""
    record, steps = trace.record, tuple(_steps(trace))
    assessments = trace.assessments
    vector = record.features()
    card: Mapping[str, Any] = next(iter(trace.answer["cards"]), {})
    notes_say = concept_mentions(assessments[0].findings.findings, record.notes()) if assessments else ()
    used = tuple(models[a.estimate.task] for a in assessments)
    return TraceView(
        title=trace.service.name,
        service=trace.service.id,
        hook=trace.service.hook,
        hook_instance=trace.asked.hook_instance,
        size=f"{trace.size / 1024:.0f} KB",
        total=trace.milliseconds,
        steps=steps,
        packages=_packages(steps),
        arrived=trace.arrived or (),
        reused=trace.arrived is None,
        as_of=format_moment(record.prediction_time),
        stay=_stay(record),
        mapped=_mapped(record),
        features=tuple(_features(record)),
        unknown=_reasons(vector.unknown.values()),
        refused=_reasons(refusal.reason for refusal in record.refused),
        notes=tuple(_notes(record)),
        said=notes_say,
        reader=_reader(assessments),
        questions=tuple(_questions(assessments)),
        evidence=tuple({item.pmid: item for a in assessments for item in a.evidence}.values()),
        risks=tuple(risk_now(a.estimate, model, record) for a, model in zip(assessments, used, strict=True)),
        drivers=tuple(
            (outcome_name(TASKS[a.estimate.task]), driver_views(a.estimate, record, notes_say)) for a in assessments
        ),
        quality=quality(assessments, record, used) if assessments else None,
        summary=str(card.get("summary", "")),
        indicator=str(card.get("indicator", "")),
        suggestions=tuple(suggestion["label"] for suggestion in card.get("suggestions", ())),
        answer=orjson.dumps(trace.answer, option=orjson.OPT_INDENT_2).decode(),
    )


def times_of(trace: RequestTrace) -> list[dict[str, Any]]:
    """The steps for the inspector."""
    return [
        {"package": step.package, "step": step.name, "milliseconds": round(step.milliseconds, 1)}
        for step in _steps(trace)
    ]


def _steps(trace: RequestTrace) -> Iterator[Step]:
    """The laps of the request; the assessment is split into the pipeline's steps."""
    timed: list[tuple[str, str, float]] = []
    for name, took in trace.laps:
        if name != "assess":
            timed.append(("fhir_mapping" if name == "map the chart" else "cds_service", name, took))
            continue
        several = len(trace.assessments) > 1
        for assessment in trace.assessments:
            suffix = f": {outcome_name(TASKS[assessment.estimate.task])}" if several else ""
            timed += [(_PACKAGE_OF[step], f"{step}{suffix}", ms) for step, ms in assessment.timings]
    total, at = sum(took for _, _, took in timed) or 1.0, 0.0
    for package, name, took in timed:
        yield Step(package, name, took, round(100 * at / total, 2), round(100 * took / total, 2))
        at += took


def _packages(steps: Sequence[Step]) -> tuple[tuple[str, float], ...]:
    order = ("cds_service", "fhir_mapping", "risk_model", "knowledge_index")
    return tuple((name, sum(step.milliseconds for step in steps if step.package == name)) for name in order)


def _stay(record: PatientRecord) -> str:
    stay = record.current_stay
    if stay is None:
        return "No current inpatient stay, so no estimate and no card."
    where = ", in intensive care" if stay.intensive_care else ""
    return f"{stay.source}, since {format_moment(stay.start)}{where}"


def _mapped(record: PatientRecord) -> tuple[tuple[str, int], ...]:
    vector = record.features()
    return (
        ("stays", len(record.stays)),
        ("conditions", len(record.conditions)),
        ("medications", len(record.medications)),
        ("procedures", len(record.procedures)),
        ("measurements", len(record.measurements)),
        ("notes", len(record.notes())),
        ("features known", len(vector.values)),
        ("features unknown", len(vector.unknown)),
        ("refused", len(record.refused)),
    )


def _features(record: PatientRecord) -> Iterator[FeatureRow]:
    for name, found in sorted(record.features().values.items()):
        value = found.value if isinstance(found.value, str) else format_number(found.value)
        more = len(found.sources) - SHOWN_SOURCES
        sources = ", ".join(found.sources[:SHOWN_SOURCES]) + (f" and {more} more" if more > 0 else "")
        when = "" if found.time is None else format_moment(found.time)
        yield FeatureRow(name, value, format_unit(found.unit), when, sources)


def _reasons(codes: Any) -> tuple[tuple[str, int, str], ...]:
    return tuple((code, count, describe_reason(code)) for code, count in Counter(codes).most_common())


def _notes(record: PatientRecord) -> Iterator[NoteRow]:
    for note in record.notes():
        sections = ", ".join(dict.fromkeys(section.name.replace("_", " ") for section in note.sections))
        yield NoteRow(note.type, format_moment(note.time), note.reason or note.status, len(note.text), sections)


def _reader(assessments: Sequence[Assessment]) -> str:
    if not assessments:
        return ""
    findings = assessments[0].findings
    unreadable = f", {findings.notes_unreadable} could not be read" if findings.notes_unreadable else ""
    return (
        f"Reader {findings.reader}: {findings.notes_read} notes read{unreadable}; "
        f"{len(findings.findings)} findings, each with its quote, and {len(findings.values)} values."
    )


def _questions(assessments: Sequence[Assessment]) -> Iterator[RetrievalQuery]:
    for assessment in assessments:
        for asked in assessment.asked:
            found = ", ".join(f"PMID {pmid}" for pmid in asked.pmids) or "none"
            yield RetrievalQuery(
                outcome_name(TASKS[assessment.estimate.task]), asked.text, asked.concept, found, asked.withheld
            )
