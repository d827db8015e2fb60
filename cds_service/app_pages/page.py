"""The app page as plain values: everything the templates print."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import exp

from cds_service.app_pages.chart import OpenChart
from cds_service.app_pages.stay_choice import StayChoice, stay_choices
from cds_service.app_pages.what_if import Levers, levers
from cds_service.cards.driver_lines import nothing_raises
from cds_service.cards.wording import outcome_name, percent
from cds_service.explanations.data_quality import Quality, quality
from cds_service.explanations.driver_literature import SECONDS
from cds_service.explanations.drivers import DriverView, driver_views
from cds_service.explanations.evidence import Literature, literature
from cds_service.explanations.formatting import format_moment, reason_words
from cds_service.explanations.notes import ConceptMentions, MentionsShown, concept_mentions, sifted
from cds_service.explanations.reading import reading_words
from cds_service.explanations.risk_now import RiskNow, risk_now
from fhir_mapping import PatientRecord
from risk_model import TASKS, Assessment, Pipeline, RiskEstimate, RiskModel

SHOWN_PROBLEMS = 40
STRONGEST = 3


@dataclass(frozen=True, slots=True)
class Banner:
    name: str
    patient: str
    stay: str
    reason: str
    as_of: str
    about: str


@dataclass(frozen=True, slots=True)
class TaskDrivers:
    """The drivers of one task in two groups; both empty where the model abstains."""

    task: str
    title: str
    abstains: bool
    modifiable: tuple[DriverView, ...]
    fixed: tuple[DriverView, ...]
    reference: str
    """The estimated risk of the reference patient; empty where a model has none."""
    rest: str
    """By how much all inputs that are not drivers multiply the odds; empty where that is next to nothing."""
    nothing_raises: str
    """The sentence for an estimate that nothing raises, else empty."""

    @property
    def strongest(self) -> tuple[DriverView, ...]:
        """The strongest drivers of both groups, for the summary."""
        return tuple(sorted((*self.modifiable, *self.fixed), key=lambda one: -one.share)[:STRONGEST])


@dataclass(frozen=True, slots=True)
class Page:
    banner: Banner
    risks: tuple[RiskNow, ...]
    drivers: tuple[TaskDrivers, ...]
    said: MentionsShown
    reading: tuple[str, ...]
    literature: Literature
    quality: Quality
    levers: Levers
    counterfactuals: tuple[str, ...]
    problems: tuple[str, ...]
    more_problems: int
    has_stay: bool
    stays: tuple[StayChoice, ...]
    """Stays to choose from; empty where the EHR chose one."""
    view: str


def models_of(assessments: Sequence[Assessment], pipeline: Pipeline) -> tuple[RiskModel, ...]:
    return tuple(pipeline.models[assessment.estimate.task] for assessment in assessments)


def page_of(
    chart: OpenChart, record: PatientRecord, assessments: Sequence[Assessment], pipeline: Pipeline, view: str
) -> Page:
    """Returns the page; `view` is the id under which it was recorded. `drivers_of` adds literature later."""
    models = models_of(assessments, pipeline)
    notes_say = concept_mentions(assessments[0].findings.findings, record.notes())
    problems = tuple(dict.fromkeys(c.text for c in record.conditions if c.active))
    return Page(
        banner=banner_of(chart, record),
        risks=tuple(risk_now(a.estimate, model, record) for a, model in zip(assessments, models, strict=True)),
        drivers=tuple(_task_drivers(a.estimate, record, notes_say) for a in assessments),
        said=sifted(notes_say),
        reading=reading_words(assessments),
        literature=literature(assessments, record, notes_say, pipeline.index),
        quality=quality(assessments, record, models),
        levers=levers(assessments, record, models),
        counterfactuals=tuple(c.in_words() for a in assessments for c in a.estimate.counterfactuals),
        problems=problems[:SHOWN_PROBLEMS],
        more_problems=max(0, len(problems) - SHOWN_PROBLEMS),
        has_stay=record.current_stay is not None,
        stays=stay_choices(chart, record),
        view=view,
    )


def banner_of(chart: OpenChart, record: PatientRecord) -> Banner:
    age = record.features().number("age.last")
    years = "age unknown" if age is None else "newborn" if age == 0 else f"{age:.0f} years"
    stay = record.current_stay
    words = "no inpatient stay"
    if stay is not None:
        length = stay.days_until(record.prediction_time)
        words = "length of stay unknown" if length is None else f"day {int(length) + 1} of the stay"
        words += ", intensive care" if stay.intensive_care else ""
    return Banner(
        chart.name(),
        f"{years}, {record.sex or 'sex unknown'}",
        words,
        reason_words(stay.reason_texts) if stay is not None else "",
        format_moment(record.prediction_time),
        chart.about,
    )


def drivers_of(record: PatientRecord, assessments: Sequence[Assessment], pipeline: Pipeline) -> tuple[TaskDrivers, ...]:
    """Returns the drivers with their literature, as far as time allows."""
    notes_say = concept_mentions(assessments[0].findings.findings, record.notes())
    until = time.monotonic() + SECONDS
    return tuple(_task_drivers(a.estimate, record, notes_say, pipeline, until, a.factors) for a in assessments)


def _task_drivers(
    estimate: RiskEstimate,
    record: PatientRecord,
    notes_say: Sequence[ConceptMentions],
    pipeline: Pipeline | None = None,
    until: float = 0.0,
    own: Collection[str] | None = None,
) -> TaskDrivers:
    views = driver_views(estimate, record, notes_say, pipeline, until, own)
    return TaskDrivers(
        estimate.task,
        outcome_name(TASKS[estimate.task]),
        estimate.probability is None,
        tuple(view for view in views if view.modifiable),
        tuple(view for view in views if not view.modifiable),
        "" if estimate.reference is None else percent(estimate.reference),
        _rest(estimate),
        "" if any(view.direction == "raises" for view in views) else nothing_raises(estimate.task),
    )


def _rest(estimate: RiskEstimate) -> str:
    """Drivers and the rest add up, in log-odds, to the difference from the reference."""
    listed = {driver.concept for driver in estimate.drivers}
    factor = f"{exp(sum(added for concept, added in estimate.contributions if concept not in listed)):.2f}"
    return "" if factor == "1.00" else factor
