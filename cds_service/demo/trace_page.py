"""A request's walk through the four packages as plain values, in the order it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

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
class RetrievalQuestion:
    """What the index was asked for one task, and which articles it gave."""

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
    remembered: bool
    as_of: str
    stay: str
    mapped: tuple[tuple[str, int], ...]
    features: tuple[FeatureRow, ...]
    unknown: tuple[tuple[str, int, str], ...]
    refused: tuple[tuple[str, int, str], ...]
    notes: tuple[NoteRow, ...]
    said: tuple[ConceptMentions, ...]
    reader: str
    questions: tuple[RetrievalQuestion, ...]
    evidence: tuple[Evidence, ...]
    risks: tuple[RiskNow, ...]
    drivers: tuple[tuple[str, tuple[DriverView, ...]], ...]
    quality: Quality | None
    summary: str
    indicator: str
    suggestions: tuple[str, ...]
    answer: str


def trace_view(walk: RequestTrace, models: Mapping[str, RiskModel]) -> TraceView:
    """Everything the page prints; computed when it is opened, never while the clinician waits for the card."""
    record, steps = walk.record, tuple(_steps(walk))
    assessments = walk.assessments
    vector = record.features()
    card: Mapping[str, Any] = next(iter(walk.answer["cards"]), {})
    notes_say = concept_mentions(assessments[0].findings.findings, record.notes()) if assessments else ()
    used = tuple(models[a.estimate.task] for a in assessments)
    return TraceView(
        title=walk.service.title,
        service=walk.service.id,
        hook=walk.service.hook,
        hook_instance=walk.asked.hook_instance,
        size=f"{walk.size / 1024:.0f} KB",
        total=walk.milliseconds,
        steps=steps,
        packages=_packages(steps),
        arrived=walk.arrived or (),
        remembered=walk.arrived is None,
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
        risks=tuple(risk_now(a.estimate, model) for a, model in zip(assessments, used, strict=True)),
        drivers=tuple((TASKS[a.estimate.task].title, driver_views(a.estimate, record, notes_say)) for a in assessments),
        quality=quality(assessments, record, used) if assessments else None,
        summary=str(card.get("summary", "")),
        indicator=str(card.get("indicator", "")),
        suggestions=tuple(suggestion["label"] for suggestion in card.get("suggestions", ())),
        answer=orjson.dumps(walk.answer, option=orjson.OPT_INDENT_2).decode(),
    )


def times_of(walk: RequestTrace) -> list[dict[str, Any]]:
    """The steps for the inspector."""
    return [
        {"package": step.package, "step": step.name, "milliseconds": round(step.milliseconds, 1)}
        for step in _steps(walk)
    ]


def _steps(walk: RequestTrace) -> Iterator[Step]:
    """The request's own laps, that of the assessment told in the pipeline's steps."""
    told: list[tuple[str, str, float]] = []
    for name, took in walk.laps:
        if name != "assess":
            told.append(("fhir_mapping" if name == "map the chart" else "cds_service", name, took))
            continue
        several = len(walk.assessments) > 1
        for assessment in walk.assessments:
            about = f": {TASKS[assessment.estimate.task].title}" if several else ""
            told += [(_PACKAGE_OF[step], f"{step}{about}", ms) for step, ms in assessment.timings]
    total, at = sum(took for _, _, took in told) or 1.0, 0.0
    for package, name, took in told:
        yield Step(package, name, took, round(100 * at / total, 2), round(100 * took / total, 2))
        at += took


def _packages(steps: Sequence[Step]) -> tuple[tuple[str, float], ...]:
    order = ("cds_service", "fhir_mapping", "risk_model", "knowledge_index")
    return tuple((name, sum(step.milliseconds for step in steps if step.package == name)) for name in order)


def _stay(record: PatientRecord) -> str:
    stay = record.current_stay
    if stay is None:
        return "No inpatient stay is running, so there is nothing to estimate and no card."
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
        f"{findings.reader} read {findings.notes_read} notes{unreadable}: "
        f"{len(findings.findings)} findings, each anchored in the note's own words, and {len(findings.values)} values."
    )


def _questions(assessments: Sequence[Assessment]) -> Iterator[RetrievalQuestion]:
    for assessment in assessments:
        for asked in assessment.asked:
            found = ", ".join(f"PMID {pmid}" for pmid in asked.pmids) or "nothing near enough"
            yield RetrievalQuestion(
                TASKS[assessment.estimate.task].title, asked.text, asked.concept, found, asked.withheld
            )
