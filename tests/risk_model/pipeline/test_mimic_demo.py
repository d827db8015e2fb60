"""The MIMIC-IV demo as cohorts by every label definition: what tells the definitions apart shows in the counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from risk_model.cohorts.builder import CohortOptions, build_cohort
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.cohorts.splits import ByHash
from risk_model.labels.task_definitions import find_definition

FILES = ("Patient", "Encounter", "EncounterICU", "EncounterED", "Condition", "Procedure")
READMISSION = ("any-inpatient-30d", "ehrshot", "cms-hwr", "fhir-former")


@pytest.fixture(scope="module")
def cohorts(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, LabelledCohort]:
    """One for each definition. What labels need of the demo is in six of its files; its codes go by its own map."""
    folder = tmp_path_factory.mktemp("mimic")
    for name in FILES:
        (folder / f"Mimic{name}.ndjson.gz").symlink_to(shared_data / "mimic-iv-demo-fhir" / f"Mimic{name}.ndjson.gz")
    found = {}
    wanted = [("readmission_30d", name) for name in READMISSION] + [("in_hospital_mortality", "in-hospital-death")]
    for task, name in wanted:
        out = folder.parent / f"mimic-cohort-{name}"
        with FhirFolder(folder, lambda _: None) as source:
            found[name] = build_cohort(
                find_definition(task, name), source, out, CohortOptions(ByHash(), follow_up="patient")
            )
    return found


def counted(cohort: LabelledCohort) -> dict[str, Any]:
    return dict(cohort.manifest["excluded"])


def labels(cohort: LabelledCohort) -> dict[tuple[str, str | None], int]:
    return {(row.subject_id, row.encounter_id): row.label for row in cohort.rows}


def test_every_definition_reads_the_same_hundred_patients(cohorts: Mapping[str, LabelledCohort]) -> None:
    assert {cohort.manifest["patients_read"] for cohort in cohorts.values()} == {100}
    assert all(not cohort.manifest["unreadable_patients"] for cohort in cohorts.values())


def test_no_row_of_a_readmission_cohort_died_in_hospital(cohorts: Mapping[str, LabelledCohort]) -> None:
    assert counted(cohorts["any-inpatient-30d"])["died in hospital"] == 14
    died = {key for key, label in labels(cohorts["in-hospital-death"]).items() if label}
    assert len(died) == 13
    assert counted(cohorts["in-hospital-death"])["died before the prediction"] == 1
    assert not died & set(labels(cohorts["any-inpatient-30d"]))
    assert not died & set(labels(cohorts["cms-hwr"]))


def test_cms_leaves_out_departures_and_planned_returns(cohorts: Mapping[str, LabelledCohort]) -> None:
    everything, cms = labels(cohorts["any-inpatient-30d"]), labels(cohorts["cms-hwr"])
    assert {"left against medical advice", "transferred to acute care"} <= set(counted(cohorts["cms-hwr"]))
    common = set(everything) & set(cms)
    assert common == set(cms)
    assert all(cms[key] <= everything[key] for key in common)


def test_any_encounter_is_a_wider_return_than_an_inpatient_one(cohorts: Mapping[str, LabelledCohort]) -> None:
    narrow, wide = labels(cohorts["any-inpatient-30d"]), labels(cohorts["fhir-former"])
    common = set(narrow) & set(wide)
    assert len(common) > 100
    assert all(narrow[key] <= wide[key] for key in common)
    assert sum(wide[key] for key in common) > sum(narrow[key] for key in common)


def test_a_same_day_return_is_counted_by_some_and_excluded_by_ehrshot(cohorts: Mapping[str, LabelledCohort]) -> None:
    assert counted(cohorts["ehrshot"]) == {"readmitted the same day": 1}
    assert len(cohorts["ehrshot"].rows) > len(cohorts["any-inpatient-30d"].rows)


def test_a_record_of_a_row_knows_nothing_of_later(cohorts: Mapping[str, LabelledCohort]) -> None:
    found = list(cohorts["any-inpatient-30d"].records("test"))
    assert found
    for row, record in found:
        assert record.prediction_time == row.prediction_time
        assert all(stay.start <= row.prediction_time for stay in record.stays)
        assert record.deceased is None
