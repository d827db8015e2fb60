"""Every named label definition on timelines made by hand: one row per case and what each definition says of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from risk_model.core.errors import TaskDefinitionError, UnknownTaskError
from risk_model.core.tasks import TASKS
from risk_model.labels.labelling import Excluded, Labelled, label
from risk_model.labels.schema import PREDICATES
from risk_model.labels.task_definitions import find_definition, parse_task, shipped_definitions
from risk_model.labels.timeline import PatientTimeline
from tests.conftest import REPOSITORY

Resource = dict[str, Any]
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
PCS = "http://hl7.org/fhir/sid/icd-10-pcs"
READMISSION = ("ehrshot", "any-inpatient-30d", "fhir-former", "cms-hwr", "hospital-score", "meds-tab")


def day(number: float) -> str:
    """An instant so many days after 1 January 2024, 00:00 UTC."""
    return (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)).isoformat()


def stay(
    name: str,
    start: float,
    end: float | None,
    kind: str = "IMP",
    left: str | None = "home",
    why: str = "I50.9",
    **more: Any,
) -> Resource:
    found: Resource = {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished" if end is not None else "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind},
        "subject": {"reference": "Patient/p"},
        "period": {"start": day(start)} | ({"end": day(end)} if end is not None else {}),
        "reasonCode": [{"coding": [{"system": ICD, "code": why}]}],
        **more,
    }
    if left is not None:
        found["hospitalization"] = {"dischargeDisposition": {"coding": [{"code": left}]}}
    return found


def procedure(encounter: str, code: str) -> Resource:
    return {
        "resourceType": "Procedure",
        "id": f"op-{encounter}",
        "status": "completed",
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": f"Encounter/{encounter}"},
        "code": {"coding": [{"system": PCS, "code": code}]},
    }


def visit(number: float) -> Resource:
    """A later outpatient visit: the patient is still being seen then."""
    return stay(f"v{number:g}", number, number + 0.01, "AMB", None)


def answers(resources: list[Resource], task: str, definition: str, patient: Resource | None = None) -> dict[str, Any]:
    """Encounter id to 0, 1 or the reason of its exclusion."""
    person = {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01", **(patient or {})}
    timeline = PatientTimeline.of([person, *resources], "p")
    found = {}
    for answer in label(find_definition(task, definition), timeline, UTC):
        found[answer.encounter_id or ""] = answer.reason if isinstance(answer, Excluded) else answer.label
    return found


DIED, AMA, MOVED = "died in hospital", "left against medical advice", "transferred to acute care"
SAME = "continued the same day"
UNSEEN = "not seen again after 30 days"
FIRST = stay("a", 0, 3.5)
END = visit(400)
# name, resources, and what each definition says of encounter "a", in the order of READMISSION
TIMELINES: list[tuple[str, list[Resource], tuple[Any, ...]]] = [
    ("home and well", [FIRST, END], (0, 0, 0, 0, 0, 0)),
    ("back after ten days", [FIRST, stay("b", 13, 15), END], (1, 1, 1, 1, 1, 1)),
    ("back on day 30", [FIRST, stay("b", 33.4, 35), END], (1, 1, 1, 1, 1, 1)),
    ("back on day 31", [FIRST, stay("b", 34.6, 36), END], (0, 0, 0, 0, 0, 0)),
    ("day 30 counts from 23:59 or from discharge", [FIRST, stay("b", 33.6, 36), END], (1, 0, 0, 0, 0, 0)),
    ("back the same day", [FIRST, stay("b", 3.7, 6), END], ("readmitted the same day", 1, 1, SAME, 1, 1)),
    ("back the same day with another disease", [FIRST, stay("b", 3.7, 6, why="S72.001A"), END], ("readmitted the same day", 1, 1, 1, 0, 1)),
    ("back the same day and again", [FIRST, stay("b", 3.7, 6), stay("c", 10, 11), END], ("readmitted the same day", 1, 1, SAME, 1, 1)),
    ("a transfer that touches is one stay", [FIRST, stay("b", 3.5, 6), END], (0, 0, 0, 0, 0, 0)),
    ("an intensive care part is one stay", [FIRST, stay("icu", 1, 2, "ACUTE", None, partOf={"reference": "Encounter/a"}), END], (0, 0, 0, 0, 0, 0)),
    ("an observation stay is no admission", [FIRST, stay("o", 10, 11, "OBSENC"), END], (0, 0, 1, 0, 0, 0)),
    ("an emergency visit is no admission", [FIRST, stay("e", 10, 10.2, "EMER"), END], (0, 0, 1, 0, 0, 0)),
    ("an outpatient visit", [FIRST, visit(10), END], (0, 0, 1, 0, 0, 0)),
    ("died in hospital", [stay("a", 0, 3.5, left="exp")], (0, DIED, DIED, DIED, DIED, UNSEEN)),
    ("died in hospital, NUBC 20", [stay("a", 0, 3.5, left="20")], (0, DIED, DIED, DIED, DIED, UNSEEN)),
    ("left against advice", [stay("a", 0, 3.5, left="aadvice"), stay("b", 5, 6), END], (1, 1, 1, AMA, AMA, 1)),
    ("left against advice, NUBC 07", [stay("a", 0, 3.5, left="07"), stay("b", 5, 6), END], (1, 1, 1, AMA, AMA, 1)),
    ("to another hospital", [stay("a", 0, 3.5, left="02"), stay("b", 4.1, 6), END], (1, 1, 1, MOVED, MOVED, 1)),
    ("to hospice", [stay("a", 0, 3.5, left="hosp"), END], (0, 0, 0, 0, 0, 0)),
    ("data end before day 30", [FIRST, visit(20)], (0, 0, 1, 0, 0, UNSEEN)),
    ("back, and data end before day 30", [FIRST, stay("b", 13, 15)], (1, 1, 1, 1, 1, UNSEEN)),
    ("planned: knee replacement for arthrosis", [FIRST, stay("b", 20, 22, why="M17.11"), procedure("b", "0SRC0J9"), END], (1, 1, 1, 0, 0, 1)),
    ("planned: chemotherapy", [FIRST, stay("b", 20, 22, why="Z51.11"), END], (1, 1, 1, 0, 0, 1)),
    ("planned: transplant even with an acute diagnosis", [FIRST, stay("b", 20, 22, why="N17.9"), procedure("b", "0TY00Z0"), END], (1, 1, 1, 0, 0, 1)),
    ("acute: bypass for an infarction", [FIRST, stay("b", 20, 22, why="I21.4"), procedure("b", "021109W"), END], (1, 1, 1, 1, 0, 1)),
    ("unplanned, another disease", [FIRST, stay("b", 20, 22, why="S72.001A"), END], (1, 1, 1, 1, 0, 1)),
    ("a complication of care", [FIRST, stay("b", 20, 22, why="T81.4XXA"), END], (1, 1, 1, 1, 1, 1)),
    ("first planned, then unplanned", [FIRST, stay("b", 10, 12, why="Z51.11"), stay("c", 20, 22), END], (1, 1, 1, 0, 1, 1)),
    ("still in hospital", [stay("a", 0, None)], ("still in hospital",) * 6),
    ("an account inside the stay is no discharge", [stay("a", 0, 9), stay("n", 2, 3), END], (0, 0, 0, 0, 0, 0)),
    ("an account inside the stay does not say how it ended", [stay("a", 0, 9, left="aadvice"), stay("n", 2, 3), END], (0, 0, 0, AMA, AMA, 0)),
    ("an account inside the stay that nobody closed", [stay("a", 0, 9), stay("n", 2, None, left=None), END], (0, 0, 0, 0, 0, 0)),
    ("a stay that nobody closed before", [stay("old", -3000, None, left=None), FIRST, stay("b", 13, 15), END], (1, 1, 1, 1, 1, 1)),
    ("a stay that nobody closed three weeks before", [stay("old", -21, None, left=None), FIRST, END], (0, 0, 0, 0, 0, 0)),
    ("one admission registered twice, once without an end", [stay("a", 0, None, left=None), stay("twin", 0.2, 3.5), END], (0, 0, 0, 0, 0, 0)),
    ("cancelled return", [FIRST, stay("b", 10, 12) | {"status": "cancelled"}, END], (0, 0, 0, 0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resources", "expected"), TIMELINES, ids=[row[0] for row in TIMELINES])
def test_readmission_by_every_definition(name: str, resources: list[Resource], expected: tuple[Any, ...]) -> None:
    assert tuple(answers(resources, "readmission_30d", d)["a"] for d in READMISSION) == expected


def test_avoidable_is_unknown_where_diagnoses_are_not_coded() -> None:
    plain = [FIRST, stay("b", 13, 15), END]
    uncoded = [{k: v for k, v in resource.items() if k != "reasonCode"} for resource in plain]
    assert answers(uncoded, "readmission_30d", "hospital-score")["a"] == "label unknown"
    assert answers(uncoded, "readmission_30d", "cms-hwr")["a"] == 1


def test_a_death_after_discharge_is_a_negative_that_needs_no_follow_up() -> None:
    person = {"resourceType": "Patient", "id": "p", "deceasedDateTime": day(10)}
    (row,) = label(find_definition("readmission_30d"), PatientTimeline.of([person, FIRST], "p"), UTC)
    assert isinstance(row, Labelled)
    assert (row.label, row.needs_until) == (0, None)


def test_the_day_of_discharge_ends_where_the_hospital_is() -> None:
    """22:30 in New York is already tomorrow in UTC."""
    resources = [{"resourceType": "Patient", "id": "p"}, stay("a", 0, 3 + 3.5 / 24), END]
    task = find_definition("readmission_30d", "ehrshot")
    times = {}
    for zone in (UTC, ZoneInfo("America/New_York")):
        (row,) = label(task, PatientTimeline.of(resources, "p"), zone)
        assert isinstance(row, Labelled)
        times[str(zone)] = row.prediction_time.isoformat()
    assert times == {"UTC": "2024-01-04T23:59:00+00:00", "America/New_York": "2024-01-04T04:59:00+00:00"}


GONE, DEAD = "left before the prediction", "died before the prediction"
# name, resources, Patient, and the answers at 24 h and at 48 h
DEATHS: list[tuple[str, list[Resource], Resource, tuple[Any, Any]]] = [
    ("survives", [stay("a", 0, 5)], {}, (0, 0)),
    ("expired by disposition", [stay("a", 0, 5, left="exp")], {}, (1, 1)),
    ("MIMIC's word", [stay("a", 0, 5, left="DIED")], {}, (1, 1)),
    ("death in the stay, no disposition", [stay("a", 0, 5, left=None)], {"deceasedDateTime": day(4)}, (1, 1)),
    ("dies on day two", [stay("a", 0, 1.5, left="exp")], {}, (1, DEAD)),
    ("home on day two", [stay("a", 0, 1.5)], {}, (0, GONE)),
    ("home in a day", [stay("a", 0, 0.9)], {}, (GONE, GONE)),
    ("dies in a day", [stay("a", 0, 0.9, left="exp")], {}, (DEAD, DEAD)),
    ("dies after discharge", [stay("a", 0, 5)], {"deceasedDateTime": day(9)}, (0, 0)),
    ("death known to the day of discharge, disposition missing", [stay("a", 0, 5.5, left=None)], {"deceasedDateTime": "2024-01-06"}, (1, 1)),
    ("death known to the day of discharge, sent home", [stay("a", 0, 5.5)], {"deceasedDateTime": "2024-01-06"}, (0, 0)),
    ("dead, nobody says when", [stay("a", 0, 5, left=None)], {"deceasedBoolean": True}, ("label unknown",) * 2),
    ("dead, nobody says when, sent home", [stay("a", 0, 5)], {"deceasedBoolean": True}, (0, 0)),
    ("still running", [stay("a", 0, None)], {}, ("label unknown",) * 2),
    ("still running, died", [stay("a", 0, None)], {"deceasedDateTime": day(4)}, (1, 1)),
    ("dead before", [stay("a", 0, 5)], {"deceasedDateTime": day(-3)}, ("died before the stay",) * 2),
    ("an account inside the stay ends at home", [stay("a", 0, 5, left="exp"), stay("n", 2, 3)], {"deceasedDateTime": "2024-01-06"}, (1, 1)),
    ("death in a stay that nobody closed", [stay("a", 0, None, left=None), stay("b", 40, 45)], {}, ("label unknown",) * 2),
    ("dead by its date, discharged days after", [stay("a", 0.5, 5, left="exp")], {"deceasedDateTime": "2024-01-01"}, (DEAD, DEAD)),
    ("to hospice", [stay("a", 0, 5, left="hosp")], {}, (0, 0)),
    ("intensive care part", [stay("a", 0, 5, left="exp"), stay("icu", 1, 5, "ACUTE", None, partOf={"reference": "Encounter/a"})], {}, (1, 1)),
    ("an emergency visit has no row", [stay("a", 0, 5), stay("e", -1, 0, "EMER", "exp")], {}, (0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resources", "patient", "expected"), DEATHS, ids=[row[0] for row in DEATHS])
def test_in_hospital_death(name: str, resources: list[Resource], patient: Resource, expected: tuple[Any, Any]) -> None:
    for definition, answer in zip(("in-hospital-death", "in-hospital-death-48h"), expected, strict=True):
        assert answers(resources, "in_hospital_mortality", definition, patient)["a"] == answer


def test_rolling_predicts_every_day_until_the_end_and_no_longer() -> None:
    task = find_definition("in_hospital_mortality", "in-hospital-death-rolling")
    person = {"resourceType": "Patient", "id": "p"}
    rows = list(label(task, PatientTimeline.of([person, stay("a", 0, 4.2, left="exp")], "p"), UTC))
    assert [r.prediction_time.isoformat() for r in rows if isinstance(r, Labelled)] == [day(n) for n in (1, 2, 3, 4)]
    assert {r.label for r in rows if isinstance(r, Labelled)} == {1}


def test_no_prediction_after_a_death_that_is_only_a_date() -> None:
    """The discharge was entered three days after the death."""
    task = find_definition("in_hospital_mortality", "in-hospital-death-rolling")
    person = {"resourceType": "Patient", "id": "p", "deceasedDateTime": "2024-01-02"}
    found = list(label(task, PatientTimeline.of([person, stay("a", 0.5, 4.2, left="exp")], "p"), UTC))
    assert [r.prediction_time.isoformat() for r in found if isinstance(r, Labelled)] == [day(1.5)]
    assert {r.reason for r in found if isinstance(r, Excluded)} == {"died before the prediction"}


def test_a_stay_never_closed_is_excluded_once() -> None:
    task = find_definition("in_hospital_mortality", "in-hospital-death-rolling")
    resources = [{"resourceType": "Patient", "id": "p"}, stay("old", -3000, None, left=None), stay("a", 0, 1.5)]
    found = list(label(task, PatientTimeline.of(resources, "p"), UTC))
    assert [(r.encounter_id, r.reason) for r in found if isinstance(r, Excluded)] == [("old", "label unknown")]


def lab(number: float, code: str, value: float, unit: str) -> Resource:
    return {
        "resourceType": "Observation",
        "id": f"o{number:g}-{code}",
        "status": "final",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": day(number),
        "valueQuantity": {"value": value, "unit": unit},
    }


@pytest.mark.parametrize(
    ("task", "code", "unit", "levels"),
    [
        ("thrombocytopenia", "777-3", "10*3/uL", [(49, "severe"), (50, "moderate"), (99, "moderate"), (100, "mild"), (149, "mild"), (150, "none")]),
        ("hyperkalemia", "2823-3", "mmol/L", [(5.5, "none"), (5.6, "mild"), (6.0, "mild"), (6.1, "moderate"), (7.0, "moderate"), (7.1, "severe")]),
        ("hypoglycemia", "2345-7", "mg/dL", [(53, "severe"), (54, "moderate"), (62, "moderate"), (63, "mild"), (70.2, "mild"), (71, "none")]),
        ("hyponatremia", "2951-2", "mmol/L", [(124, "severe"), (125, "moderate"), (129, "moderate"), (130, "mild"), (135, "mild"), (136, "none")]),
        ("anemia", "718-7", "g/dL", [(6.9, "severe"), (7, "moderate"), (10.9, "moderate"), (11, "mild"), (11.9, "mild"), (12, "none")]),
    ],
)  # fmt: skip
def test_ehrshot_laboratory_levels(task: str, code: str, unit: str, levels: list[tuple[float, str]]) -> None:
    for value, level in levels:
        person = {"resourceType": "Patient", "id": "p"}
        timeline = PatientTimeline.of([person, stay("a", 0, 5), lab(2, code, value, unit)], "p")
        (row,) = label(find_definition(task), timeline, UTC)
        assert isinstance(row, Labelled)
        assert (row.level, row.label, row.encounter_id) == (level, int(level != "none"), "a"), value
        assert row.prediction_time == datetime.fromisoformat(day(2)) - timedelta(minutes=1)


def condition(number: float, code: str) -> Resource:
    return {
        "resourceType": "Condition",
        "id": f"c{number:g}",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": ICD, "code": code}]},
        "recordedDate": day(number),
    }


@pytest.mark.parametrize(
    ("task", "code"),
    [("new_hypertension", "I10"), ("new_hyperlipidemia", "E78.5"), ("new_pancreatic_cancer", "C25.9"),
     ("new_celiac", "K90.0"), ("new_lupus", "M32.9"), ("new_acute_mi", "I21.4")],
)  # fmt: skip
def test_ehrshot_new_diagnoses(task: str, code: str) -> None:
    first = stay("a", 0, 3.5)
    assert answers([first, condition(100, code)], task, "ehrshot") == {"a": 1}
    assert answers([first, condition(370, code)], task, "ehrshot") == {"a": 0}
    assert answers([first, condition(100, "Z99.9")], task, "ehrshot") == {"a": 0}
    assert answers([first, condition(1, code), condition(100, code)], task, "ehrshot") == {"a": "diagnosed before"}


def test_ehrshot_long_stay_and_transfer_to_intensive_care() -> None:
    assert answers([stay("a", 0.2, 7.2)], "long_stay", "ehrshot") == {"a": 1}
    assert answers([stay("a", 0.2, 7.1)], "long_stay", "ehrshot") == {"a": 0}
    # 23:59 of that day is later than the discharge itself
    assert answers([stay("a", 0.2, 0.9)], "long_stay", "ehrshot") == {"a": "left before the prediction"}
    icu = {"type": [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}], "partOf": {"reference": "Encounter/a"}}  # fmt: skip
    part = stay("icu", 2, 3, "ACUTE", None, **icu)
    assert answers([stay("a", 0.2, 6), part], "icu_transfer", "ehrshot") == {"a": 1}
    early = stay("icu", 0.5, 3, "ACUTE", None, **icu)
    assert answers([stay("a", 0.2, 6), early], "icu_transfer", "ehrshot") == {"a": "in intensive care already"}
    # No place of care is coded: nobody can say that there was no transfer.
    assert answers([stay("a", 0.2, 6)], "icu_transfer", "ehrshot") == {"a": "label unknown"}


def test_ehrshot_chest_radiograph() -> None:
    report = {
        "resourceType": "DiagnosticReport", "id": "x", "status": "final", "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "36643-5"}]}, "issued": day(3),
        "conclusionCode": [{"coding": [{"system": "http://snomed.info/sct", "code": "233604007"}]}],
    }  # fmt: skip
    assert answers([stay("a", 0, 6), report], "chest_xray", "ehrshot") == {"a": 1}
    assert answers([stay("a", 0, 6), report | {"conclusionCode": []}], "chest_xray", "ehrshot") == {"a": 0}


def test_the_fifteen_ehrshot_tasks_are_shipped() -> None:
    assert sum(definition == "ehrshot" for _, definition in shipped_definitions()) == 15
    for task in shipped_definitions().values():
        assert task.timeline, task.id
        assert task.source, task.id


OWN = """
id: kidney_injury
title: Creatinine of two or more after the first day
trigger: {event: admission, class: [inpatient, observation], at: 24 h}
include:
  adult: {age: {at_least: 18}}
exclude:
  on dialysis: {before: {codes: {any: [{system: icd10cm, prefixes: [Z99.2]}]}}}
window: {from: 0 min, to: 7 d}
label:
  any:
    - {concept: {name: creatinine, at_least: 2, count: 2}}
    - {all: [{codes: {kind: condition, any: [{system: icd10cm, prefixes: [N17]}]}}, {not: {death: in_window}}]}
"""


def test_a_task_of_your_own() -> None:
    task = parse_task(OWN, "own.yaml")

    def ask(*resources: Resource, **patient: Any) -> Any:
        person = {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01", **patient}
        (answer,) = label(task, PatientTimeline.of([person, stay("a", 0, 6), *resources], "p"), UTC)
        return answer.reason if isinstance(answer, Excluded) else answer.label

    high = [lab(2, "2160-0", 2.4, "mg/dL"), lab(3, "2160-0", 2.0, "mg/dL")]
    assert ask() == 0
    assert ask(*high) == 1
    assert ask(high[0]) == 0
    assert ask(lab(0.5, "2160-0", 3, "mg/dL"), high[1]) == 0, "a value before the prediction is no outcome"
    assert ask(condition(3, "N17.9")) == 1
    assert ask(condition(3, "N17.9"), deceasedDateTime=day(5)) == 0
    assert ask(condition(-30, "Z99.2"), *high) == "on dialysis"
    assert ask(birthDate="2015-01-01") == "not adult"
    assert ask(birthDate="2006") == "not adult", "an age that cannot be told does not pass for adult"


@pytest.mark.parametrize(
    ("before", "after", "field", "message"),
    [
        ("at_least: 2, count: 2", "at_least: two", "label.any[0].concept.at_least", "expected a number"),
        ("name: creatinine", "name: creatinin", "label.any[0].concept.name", "is none of"),
        ("to: 7 d", "to: soon", "window.to", "no duration"),
        ("to: 7 d", "to: -1 d", "window", "must lie after"),
        ("event: admission", "event: arrival", "trigger.event", "is none of"),
        ("class: [inpatient, observation]", "class: [ward]", "trigger.class[0]", "is none of"),
        ("adult: {age: {at_least: 18}}", "adult: {age: {}}", "include.adult.age", "needs a bound"),
        ("system: icd10cm, prefixes: [Z99.2]", "system: icd, prefixes: [Z99.2]", "exclude.on dialysis.before.codes.any[0].system", "neither one of"),
        ("death: in_window", "death: maybe", "label.any[1].all[1].not.death", "is none of"),
        ("label:", "lable:", "the file", "unknown key 'lable'"),
        ("window: {from: 0 min, to: 7 d}", "", "the file", "'window' is missing"),
        ("id: kidney_injury", "id: 7", "id", "expected text"),
        ("title:", "title: [", "line 4", "not valid YAML"),
        ("on dialysis: {before", "on dialysis: {bfore", "exclude.on dialysis", "unknown predicate"),
    ],
)  # fmt: skip
def test_task_file_errors_name_the_field(before: str, after: str, field: str, message: str) -> None:
    assert before in OWN
    with pytest.raises(TaskDefinitionError) as caught:
        parse_task(OWN.replace(before, after), "own.yaml")
    assert message in str(caught.value)
    assert caught.value.field == field
    assert str(caught.value).startswith("own.yaml: ")


def test_an_unknown_task_or_definition_names_what_there_is() -> None:
    with pytest.raises(UnknownTaskError, match="readmission_30d"):
        find_definition("readmission")
    with pytest.raises(UnknownTaskError, match="cms-hwr"):
        find_definition("readmission_30d", "hwr")
    assert find_definition("in_hospital_mortality", "in-hospital-death-24h").definition == "in-hospital-death"


def test_the_label_each_task_names_is_a_shipped_definition() -> None:
    for task in TASKS.values():
        assert find_definition(task.id).definition == task.label
        assert find_definition(task.id, task.label).id == task.id


def test_the_guide_names_every_predicate_and_its_example_works() -> None:
    guide = (REPOSITORY / "docs" / "cohorts.md").read_text("utf-8")
    table = guide[guide.index("| predicate |") :]
    assert [name for name in PREDICATES if f"`{name}: " not in table] == []
    example = guide[guide.index("```yaml\n") + 8 :].partition("```")[0]
    assert parse_task(example, "docs/cohorts.md").id == "kidney_injury"
