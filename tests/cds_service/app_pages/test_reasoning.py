"""What the pages say is what the models say: past estimates, what-if, drivers and data against the rooms they show."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from cds_hooks import HookError
from cds_service.app_pages.chart import reader_of
from cds_service.app_pages.course import MAX_POINTS, course_view, estimates_over, moments
from cds_service.app_pages.what_if import WhatIfQuestion, changed, levers
from cds_service.demo.ward.patients import DemoPatient, DemoWard
from cds_service.explanations.data_quality import STALE_HOURS, quality
from cds_service.explanations.drivers import driver_views, window
from cds_service.explanations.evidence import literature
from cds_service.explanations.formatting import describe_reason
from cds_service.explanations.notes import concept_mentions
from cds_service.explanations.risk_now import risk_now
from cds_service.hooks.hook_handler import HookHandler
from fhir_mapping import PatientRecord
from fhir_mapping.core.reasons import NOTE_REASONS, REASONS
from knowledge_index import Evidence, PathStep
from knowledge_index.vocabulary import factors_of_concept
from risk_model import READMISSION_30D, Assessment, RiskModel
from risk_model.core.values import UnreadNote
from risk_model.features.inputs import concept_of
from tests.cds_service.app_pages.conftest import SEPSIS, SEPSIS_NOW, resources
from tests.cds_service.app_pages.documents import Document
from tests.patience import PATIENT

Case = tuple[PatientRecord, list[Assessment], list[RiskModel]]


@pytest.fixture(scope="module")
def sepsis(app: Flask) -> Case:
    """A stay in intensive care for which the mortality model answers."""
    pipeline = app.extensions["riskcards"].handler.pipeline
    record = _first(resources(SEPSIS))
    assessments = [pipeline.assess(record, task) for task in pipeline.models]
    assert any(assessment.estimate.probability is not None for assessment in assessments)
    return record, assessments, list(pipeline.models.values())


def _first(chart: list[dict[str, Any]], now: datetime = SEPSIS_NOW) -> PatientRecord:
    stay = next(str(r["id"]) for r in chart if r["resourceType"] == "Encounter")
    return PatientRecord.from_resources(chart, None, now, encounter_id=stay)


def rogers(ward: DemoWard) -> DemoPatient:
    return next(patient for patient in ward.patients.values() if "Rogers" in patient.name)


@given(st.datetimes(), st.floats(0, 5000))
def test_moments_are_few_rising_and_end_now(start: datetime, hours: float) -> None:
    begin = start.replace(year=2020, tzinfo=UTC)
    now = begin + timedelta(hours=hours)
    reported = moments(begin, now)
    assert 1 <= len(reported) <= MAX_POINTS
    assert reported[-1] == now
    assert list(reported) == sorted(set(reported))
    assert all(moment > begin for moment in reported[:-1])


def test_every_past_point_is_the_estimate_of_that_time(app: Flask, handler: HookHandler, ward: DemoWard) -> None:
    """Each point equals what the model says of a record cut at that moment, notes and all."""
    patient, now = rogers(ward), datetime.now(UTC)
    read = reader_of(patient.chart.resources, patient.id, patient.stay, now)
    reported = list(estimates_over(read, read(), handler.pipeline, handler.admission, time.monotonic() + PATIENT))
    assert len(reported) >= 4
    for moment, estimates in reported:
        record = PatientRecord.from_resources(
            patient.chart.resources, patient.id, moment, encounter_id=patient.stay, undated_known=moment == now
        )
        for task, estimate in estimates.items():
            whole = handler.pipeline.assess(record, task).estimate
            assert (estimate.probability, estimate.abstention) == (whole.probability, whole.abstention)
    assert len({e["in_hospital_mortality"].probability for _, e in reported}) > 2


def test_what_came_later_does_not_move_an_earlier_point(handler: HookHandler) -> None:
    chart, later = resources(SEPSIS), resources(SEPSIS)
    newest = SEPSIS_NOW - timedelta(hours=1)
    lactate = next(r for r in chart if r["resourceType"] == "Observation" and "valueQuantity" in r)
    later.append({**lactate, "id": "later", "effectiveDateTime": newest.isoformat(), "issued": newest.isoformat()})
    cut = newest - timedelta(hours=1)

    def earlier(known: list[dict[str, Any]]) -> list[Any]:
        record = _first(known)
        stay = str(record.current_stay.source.partition("/")[2]) if record.current_stay else None
        read = reader_of(known, record.subject_id, stay, SEPSIS_NOW)
        reported = estimates_over(read, read(), handler.pipeline, handler.admission, time.monotonic() + PATIENT)
        return [(m, e["in_hospital_mortality"].inputs) for m, e in reported if m < cut]

    before, after = earlier(chart), earlier(later)
    assert before
    assert repr(before) == repr(after)


def test_a_late_course_says_that_it_is_not_whole(app: Flask, ward: DemoWard, handler: HookHandler) -> None:
    patient = rogers(ward)
    read = reader_of(patient.chart.resources, patient.id, patient.stay, datetime.now(UTC))
    assert list(estimates_over(read, read(), handler.pipeline, handler.admission, time.monotonic() - 1)) == []


def test_the_line_is_interrupted_where_the_model_abstains(sepsis: Case) -> None:
    _, assessments, _ = sepsis
    estimated_tasks = next(a.estimate for a in assessments if a.estimate.probability is not None)
    silent = next(a.estimate for a in assessments if a.estimate.probability is None)
    start = SEPSIS_NOW - timedelta(days=4)
    reported = [(start + timedelta(days=n), silent if n == 2 else estimated_tasks) for n in range(1, 5)]
    view = course_view(estimated_tasks.task, start, reported)
    assert len(view.segments) == 2
    assert [point.at is None for point in view.points] == [False, True, False, False]
    assert "No estimate at 1 of 4 time points" in view.says


def test_one_click_leads_from_a_driver_to_every_value_it_was_read_from(sepsis: Case) -> None:
    record, assessments, _ = sepsis
    notes_say = concept_mentions(assessments[0].findings.findings, record.notes())
    measured = 0
    for assessment in assessments:
        views = driver_views(assessment.estimate, record, notes_say)
        assert [view.label for view in views] == [driver.label for driver in assessment.estimate.drivers]
        for view, driver in zip(views, assessment.estimate.drivers, strict=True):
            assert view.direction == ("raises" if driver.contribution > 0 else "lowers")
            used = [m for m in record.measurements if m.concept == driver.concept and m.time >= window(record)]
            if used:
                measured += 1
                assert view.series[0].count == len(used)
                assert {v.source for v in view.series[0].values} <= {m.source for m in used}
                assert len(view.series[0].values) + view.series[0].more == len(used)
    assert measured >= 3


def test_what_if_recalculates_everything_with_the_changed_value(
    app: Flask, handler: HookHandler, sepsis: Case, opened: Callable[..., str]
) -> None:
    """As if the chart itself had held the value: the same number as from resources rewritten by hand."""
    record, assessments, models = sepsis
    offered = levers(assessments, record, models)
    assert {lever.concept for lever in offered.measured} >= {"lactate", "sodium"}
    question = WhatIfQuestion({"lactate": 1.1})
    asked = handler.pipeline.assess(changed(record, question), "in_hospital_mortality").estimate
    rewritten = resources(SEPSIS)
    lactates = {m.source.partition("/")[2] for m in record.measurements if m.concept == "lactate"}
    for resource in rewritten:
        if resource["resourceType"] == "Observation" and resource["id"] in lactates:
            resource["valueQuantity"]["value"] = 1.1
    by_hand = handler.pipeline.assess(_first(rewritten), "in_hospital_mortality").estimate
    now = next(a.estimate for a in assessments if a.estimate.task == "in_hospital_mortality")
    assert asked.probability == by_hand.probability
    assert asked.probability != now.probability
    address = opened(resources(SEPSIS))
    response = app.test_client().post(f"{address}what-if", data={"lactate": "1.1"}, headers={"X-Fragment": "1"})
    text = response.get_data(as_text=True)
    assert response.status_code == 200
    assert Document(text).faults == []
    assert "may not change this patient's outcome" in " ".join(Document(text).text)
    whole = Document(app.test_client().post(f"{address}what-if", data={"lactate": "1.1"}).get_data(as_text=True))
    assert whole.faults == []


@pytest.mark.parametrize(
    ("form", "reported"),
    [
        ({"lactate": "-3"}, "Lactate: a number from"),
        ({"lactate": "much"}, "Lactate: a number from"),
        ({"lactate": "nan"}, "Lactate: a number from"),
        ({"discharged_to": "the moon"}, "one of the listed places"),
    ],
)
def test_invalid_what_if_values_are_rejected_with_the_allowed_range(
    app: Flask, opened: Callable[..., str], form: dict[str, str], reported: str
) -> None:
    response = app.test_client().post(f"{opened(resources(SEPSIS))}what-if", data=form)
    page = Document(response.get_data(as_text=True))
    assert response.status_code == 400
    assert reported in " ".join(page.text)
    assert not [a for _, a in page.tags if a.get("class") == "answers"]


def test_unknown_names_and_unchanged_values_ask_nothing(sepsis: Case) -> None:
    record, assessments, models = sepsis
    offered = levers(assessments, record, models)
    now = {lever.concept: lever.now for lever in offered.measured}
    assert not WhatIfQuestion.of_form(now | {"age": "20", "probability": "0"}, offered)
    with pytest.raises(HookError):
        WhatIfQuestion.of_form({"discharged_to": "01"}, replace(offered, leaves=False))


def test_the_training_cohort_is_read_from_the_model_manifest(handler: HookHandler, ward: DemoWard) -> None:
    """A site's own readmission model learned from the site's patients, not from those of the shipped one."""
    patient = next(p for p in ward.patients.values() if "Santiago" in p.name)
    record = PatientRecord.from_resources(patient.chart.resources, patient.id, encounter_id=patient.stay)
    shipped = handler.pipeline.models[READMISSION_30D]
    population = shipped.manifest["population"] | {"in_words": "patients of 18 to 97 years of our own"}
    ours = replace(shipped, manifest=shipped.manifest | {"model_id": "our-own", "population": population})
    reported = [risk_now(model.estimate(record, None), model, record).learned_from for model in (shipped, ours)]
    assert reported == ["diabetic inpatients, 1999–2008", "patients of 18 to 97 years of our own"]


def test_an_abstention_has_scores_and_no_number(handler: HookHandler, ward: DemoWard) -> None:
    patient = next(p for p in ward.patients.values() if "McDonald" in p.name)
    record = reader_of(patient.chart.resources, patient.id, patient.stay, datetime.now(UTC))()
    for task in handler.pipeline.models:
        view = risk_now(handler.pipeline.assess(record, task).estimate, handler.pipeline.models[task], record)
        assert view.probability is None
        assert view.abstention
        assert view.scores
        assert not [bar for bar in view.bars if bar.ours]


def test_the_graph_follows_every_step_of_a_path_from_left_to_right(handler: HookHandler, sepsis: Case) -> None:
    """Two headings and a citation on the way: each step is an edge, said in words, and none leads back."""
    record, assessments, _ = sepsis
    steps = (
        PathStep("Sepsis", "broader than", "Shock, Septic"),
        PathStep("Shock, Septic", "heading of", "PMID 1"),
        PathStep("PMID 1", "cited by", "PMID 2"),
    )
    reported = tuple(
        Evidence(str(n), f"Article {n}", "words", 1.0, "graph", 2000 + n, "cohort", steps[: n + 1]) for n in (1, 2)
    )
    notes_say = concept_mentions(assessments[0].findings.findings, record.notes())
    drawn = literature([replace(assessments[0], evidence=reported)], record, notes_say, handler.pipeline.index).graph
    assert drawn is not None
    at = {node.id: node for node in drawn.nodes}
    assert all(at[edge.source].x < at[edge.target].x for edge in drawn.edges)
    assert len(drawn.sentences) == len(drawn.edges)
    assert {"broader than", "heading of", "cited by", "means"} == {edge.relation for edge in drawn.edges}
    for node in drawn.nodes:
        assert 0 <= node.x <= drawn.width - 118
        assert 0 <= node.y <= drawn.height - node.height
    stacked = sorted(drawn.nodes, key=lambda node: (node.x, node.y))
    assert len(stacked) > 1
    assert all(a.x < b.x or a.y + a.height < b.y for a, b in itertools.pairwise(stacked))


def test_listed_articles_that_cite_each_other_are_joined(handler: HookHandler, sepsis: Case) -> None:
    """Only among the listed ones, from the citing to the cited, said in words; the arc stays within the picture."""
    record, assessments, _ = sepsis
    found_by = (PathStep("Sepsis", "heading of", "PMID 1"), PathStep("Sepsis", "heading of", "PMID 2"))
    reported = tuple(
        Evidence(str(n), f"Article {n}", "words", 1.0, "graph", 2000, "cohort", (found_by[n - 1],), references=cited)
        for n, cited in ((1, ("2", "999")), (2, ()))
    )
    drawn = literature([replace(assessments[0], evidence=reported)], record, (), handler.pipeline.index).graph
    assert drawn is not None
    (citation,) = (edge for edge in drawn.edges if edge.relation == "cites")
    assert drawn.citations == 1
    articles = {node.id: node.full for node in drawn.nodes}
    assert (articles[citation.source], articles[citation.target]) == ("Article 1 (2000)", "Article 2 (2000)")
    assert "Article 1 (2000) → cites → Article 2 (2000)" in drawn.sentences
    reach = max(float(number) for number in re.findall(r"[\d.]+", citation.path)[::2])
    assert reach <= drawn.width


def test_every_input_of_the_shipped_models_is_a_factor(handler: HookHandler) -> None:
    """An input without a factor would never have literature, nor a sentence that there is none."""
    inputs = {concept_of(name) for model in handler.pipeline.models.values() for name in model.names}
    assert {name for name in inputs if not factors_of_concept(name)} == set()


def test_a_driver_has_articles_or_says_what_is_not_studied(app: Flask, ward: DemoWard) -> None:
    client, said_none, shown = app.test_client(), 0, 0
    for patient in ward.patients:
        page = client.get(f"/demo/app/{patient}/drivers").get_data(as_text=True)
        for driver in page.split('<li class="driver ')[1:]:
            driver = driver.partition("</details>")[0]
            has, none = "<h4>Literature</h4>" in driver, "No study of" in driver
            assert has or none or "ran out of time" in driver
            said_none, shown = said_none + none, shown + has
    assert shown > said_none > 0


def test_data_quality_counts_what_was_refused_missing_and_old(sepsis: Case) -> None:
    record, assessments, models = sepsis
    reported = quality(assessments, record, models)
    assert reported.notes_unread == ()
    unread = replace(assessments[0].findings, not_read=(UnreadNote("DocumentReference/1", "language-fr"),))
    french = [replace(assessments[0], findings=unread), *assessments[1:]]
    assert quality(french, record, models).notes_unread == (
        "1 note not read: written in a language that is not read (fr)",
    )
    refused = [refusal for refusal in record.refused if refusal.reason != "not-fetched"]
    assert sum(one.count for one in reported.refused) == len(refused)
    gaps = {gap.name.casefold() for a in assessments for gap in a.estimate.gaps}
    named = {name.casefold() for missing in reported.missing for name in missing.names}
    elsewhere = {"urine output", "mean blood pressure", "inspired oxygen fraction", "total bilirubin"}
    assert gaps - named <= elsewhere, "all but what is charted, or named by a score, under another name"
    assert reported.stale == ()
    aged = replace(record, prediction_time=record.prediction_time + timedelta(hours=max(STALE_HOURS.values()) + 24))
    assert len(quality(assessments, aged, models).stale) > 10
    unasked = replace(record, not_fetched=frozenset({"Condition"}))
    assert quality(assessments, unasked, models).not_fetched == ("Condition",)


@pytest.mark.parametrize("code", [*REASONS, *NOTE_REASONS])
def test_every_reason_code_has_a_description(code: str) -> None:
    assert describe_reason(code) == (REASONS.get(code) or NOTE_REASONS[code])
