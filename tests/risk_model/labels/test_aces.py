"""Task files of ACES: what converts, what each construct means, and what is refused.

The right answers are ACES's own: the tasks of MEDS-DEV and of ACES were run with es-aces 0.7.3 on generated MEDS data and
on the MIMIC-IV demo, and every label was the same (`docs/cohorts.md` has the table, and the one case that differs).
"""

# ruff: noqa: DTZ001  # MEDS times have no zone
from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cds_service.cli import cli
from risk_model.core.errors import CohortError, TaskDefinitionError
from risk_model.labels import AcesLabels, AcesTask

START = datetime(2100, 5, 1)
Event = tuple[float | None, str, float | None]

PREDICATES = {
    "admission": {"code": {"regex": "^HOSPITAL_ADMISSION"}},
    "discharge": {"code": {"any": ["HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED"]}},
    "death": {"code": "MEDS_DEATH"},
    "discharge_or_death": {"expr": "or(discharge, death)"},
    "died_at_discharge": {"expr": "and(discharge, death)"},
    "lab": {"code": "LAB//Na"},
    "low": {"code": "LAB//Na", "value_max": 135, "value_max_inclusive": False},
}
MORTALITY: dict[str, Any] = {
    "predicates": PREDICATES,
    "trigger": "admission",
    "windows": {
        "input": {"start": None, "end": "trigger + 24h", "index_timestamp": "end"},
        "gap": {
            "start": "trigger", "end": "start + 48h", "start_inclusive": False,
            "has": {"admission": "(None, 0)", "discharge_or_death": "(None, 0)"},
        },
        "target": {"start": "gap.end", "end": "start -> discharge_or_death", "start_inclusive": False, "label": "death"},
    },
}  # fmt: skip
READMISSION: dict[str, Any] = {
    "predicates": PREDICATES,
    "trigger": "discharge",
    "windows": {
        "input": {"start": None, "end": "trigger", "index_timestamp": "end"},
        "before": {"start": "end <- admission", "end": "trigger"},
        "target": {"start": "trigger", "end": "start + 30d", "start_inclusive": False, "label": "admission"},
        "seen": {"start": "target.end", "end": None, "start_inclusive": False, "has": {"_ANY_EVENT": "(1, None)"}},
    },
}
SINGLE = 1.2999999523162842
"""1.3 as MEDS keeps it, in single precision."""
IN, HOME, DIED = "HOSPITAL_ADMISSION//URGENT", "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED"


def rows(*events: Event) -> list[dict[str, Any]]:
    return [
        {"time": None if hours is None else START + timedelta(hours=hours), "code": code, "numeric_value": value}
        for hours, code, value in events
    ]


def opened(tmp_path: Path, content: Any, predicates: Any = None) -> AcesTask:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(content))
    if predicates is None:
        return AcesTask.open(tmp_path / "task.yaml")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"predicates": predicates}))
    return AcesTask.open(tmp_path / "task.yaml", tmp_path / "data.yaml")


def labelled(task: AcesTask, *events: Event) -> tuple[list[tuple[float, bool]], dict[str, int]]:
    """Hours from the start with the labels, and what was left out."""
    labels = AcesLabels(task)
    found = [((x.prediction_time - START) / timedelta(hours=1), x.label) for x in labels.of("1", rows(*events))]
    return found, dict(labels.left_out)


def changed(content: dict[str, Any], window: str, **values: Any) -> dict[str, Any]:
    windows = content["windows"]
    return {**content, "windows": {**windows, window: {**windows[window], **values}}}


@pytest.mark.parametrize(
    ("events", "found", "left_out"),
    [
        ([(0, IN, None), (72, DIED, None), (72, "MEDS_DEATH", None)], [(24, True)], {}),
        ([(0, IN, None), (72, HOME, None)], [(24, False)], {}),
        ([(0, IN, None), (72, HOME, None), (73, "MEDS_DEATH", None)], [(24, False)], {}),
        ([(0, IN, None), (48, HOME, None)], [], {"gap: 1 of discharge_or_death": 1}),
        ([(0, IN, None), (48.01, HOME, None)], [(24, False)], {}),
        ([(0, IN, None), (40, HOME, None), (40, "MEDS_DEATH", None)], [], {"gap: 1 of discharge_or_death": 1}),
        ([(0, IN, None), (30, IN, None), (90, HOME, None)], [(54, False)], {"gap: 1 of admission": 1}),
        ([(0, IN, None), (60, "LAB//Na", 1.0)], [], {"target: no event to begin or end it": 1}),
        ([], [], {}),
    ],
)
def test_mortality_in_the_stay(
    tmp_path: Path, events: list[Event], found: list[tuple[float, bool]], left_out: dict[str, int]
) -> None:
    assert labelled(opened(tmp_path, MORTALITY), *events) == (found, left_out)


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([(0, IN, None), (24, HOME, None), (744, IN, None), (800, HOME, None)], [(24, True)]),
        ([(0, IN, None), (24, HOME, None), (744.1, IN, None), (800, HOME, None)], [(24, False)]),
        ([(0, IN, None), (24, HOME, None), (25, IN, None), (26, HOME, None)], []),
        ([(24, HOME, None), (900, IN, None)], []),
        ([(24, IN, None), (24, HOME, None), (900, IN, None)], [(24, False)]),
    ],
)
def test_readmission_within_30_days_of_those_seen_later(
    tmp_path: Path, events: list[Event], found: list[tuple[float, bool]]
) -> None:
    assert labelled(opened(tmp_path, READMISSION), *events)[0] == found


@pytest.mark.parametrize(
    ("values", "bounds", "label"),
    [
        ([135.0], {}, False), ([134.9], {}, True), ([None], {}, False), ([140.0, 130.0], {}, True),
        ([135.0], {"value_max_inclusive": True}, True), ([135.0], {"value_min": 135, "value_max": None}, False),
        ([135.0], {"value_min": 135, "value_max": None, "value_min_inclusive": True}, True),
        ([SINGLE], {"value_max": 1.3}, False), ([SINGLE], {"value_max": 1.3, "value_max_inclusive": True}, True),
        ([SINGLE], {"value_min": 1.3, "value_max": None, "value_min_inclusive": True}, True),
    ],
)  # fmt: skip
def test_values_within_bounds(tmp_path: Path, values: list[float | None], bounds: dict[str, Any], label: bool) -> None:
    predicates = {**PREDICATES, "low": {**PREDICATES["low"], **bounds}}
    target = {
        "start": "input.end",
        "end": "start + 24h",
        "start_inclusive": False,
        "has": {"lab": "(1, None)"},
        "label": "low",
    }
    windows = {"input": MORTALITY["windows"]["input"], "target": target}
    task = opened(tmp_path, {"predicates": predicates, "trigger": "admission", "windows": windows})
    events = [(30.0, "LAB//Na", value) for value in values]
    assert labelled(task, (0, IN, None), *events)[0] == [(24, label)]


def test_what_happens_at_one_time_is_one_event(tmp_path: Path) -> None:
    together = changed(MORTALITY, "target", label="died_at_discharge")
    task = opened(tmp_path, together)
    assert labelled(task, (0, IN, None), (72, DIED, None), (72, "MEDS_DEATH", None))[0] == [(24, True)]
    assert labelled(task, (0, IN, None), (72, DIED, None), (73, "MEDS_DEATH", None))[0] == [(24, False)]
    many = opened(tmp_path, changed(MORTALITY, "input", has={"_ANY_EVENT": "(3, None)"}))
    events: list[Event] = [(0, IN, None), (0, "A", None), (0, "B", None), (90, HOME, None)]
    assert labelled(many, *events)[1] == {"input: 1 of _ANY_EVENT": 1}
    assert labelled(many, *events, (1, "C", None), (2, "D", None))[0] == [(24, False)]


def test_a_window_found_from_its_end_keeps_its_end(tmp_path: Path) -> None:
    """ACES issue 196: the prediction was at the start of such a window."""
    windows = {
        "input": {"start": "end - 24h", "end": "trigger", "index_timestamp": "end", "has": {"_ANY_EVENT": "(2, None)"}},
        "target": {"start": "input.end", "end": "start + 1h", "start_inclusive": False, "label": "low"},
    }
    task = opened(tmp_path, {"predicates": PREDICATES, "trigger": "admission", "windows": windows})
    events: list[Event] = [(-24, "A", None), (0, IN, None), (1, "LAB//Na", 130.0), (200, IN, None)]
    assert labelled(task, *events) == ([(0, True)], {"input: 1 of _ANY_EVENT": 1})


@pytest.mark.parametrize(
    ("inclusive", "found"), [((True, True), 1), ((False, True), 0), ((True, False), 0), ((False, False), 0)]
)
def test_a_window_of_no_length_holds_its_moment_or_nothing(
    tmp_path: Path, inclusive: tuple[bool, bool], found: int
) -> None:
    """ACES issue 212: the criteria of such a window were not looked at."""
    moment = {
        "start": "trigger", "end": "start + 0d", "start_inclusive": inclusive[0], "end_inclusive": inclusive[1],
        "has": {"admission": "(1, None)"},
    }  # fmt: skip
    windows = {**MORTALITY["windows"], "moment": moment}
    assert (
        len(labelled(opened(tmp_path, {**MORTALITY, "windows": windows}), (0, IN, None), (72, HOME, None))[0]) == found
    )


def test_a_label_window_that_begins_before_the_prediction_is_said(tmp_path: Path) -> None:
    late = AcesLabels(opened(tmp_path, changed(MORTALITY, "target", start="trigger")))
    assert len(list(late.of("1", rows((0, IN, None), (72, HOME, None))))) == 1
    assert "1 labels look at a window (target) that begins before" in str(late.warning())
    assert AcesLabels(opened(tmp_path, MORTALITY)).warning() is None


def test_only_subjects_of_the_demographics_are_labelled(tmp_path: Path) -> None:
    task = opened(tmp_path, {**MORTALITY, "patient_demographics": {"male": {"code": "GENDER//M"}}})
    events: list[Event] = [(0, IN, None), (72, HOME, None)]
    assert labelled(task, (None, "GENDER//M", None), *events)[0] == [(24, False)]
    assert labelled(task, (None, "GENDER//F", None), *events) == ([], {"not in patient_demographics: male": 1})


def test_predicates_of_the_data_fill_what_the_task_leaves_open(tmp_path: Path) -> None:
    asked = {
        **MORTALITY,
        "predicates": {**PREDICATES, "admission": "???", "discharge": {"code": "???"}, "unused": "???"},
    }
    given = {"admission": PREDICATES["admission"], "discharge": PREDICATES["discharge"]}
    assert labelled(opened(tmp_path, asked, given), (0, IN, None), (72, HOME, None))[0] == [(24, False)]
    with pytest.raises(TaskDefinitionError, match=r"predicates\.admission.*--predicates"):
        opened(tmp_path, asked)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "'trigger' is missing|'windows' is missing"),
        ({**MORTALITY, "trigger": "birth"}, "predicate 'birth' is not defined"),
        ({**MORTALITY, "more": 1}, "unknown key 'more'"),
        (changed(MORTALITY, "gap", end="start + soon"), "no duration"),
        (changed(MORTALITY, "gap", end="input.end + 2h"), "exactly one of start and end"),
        (changed(MORTALITY, "gap", end="start - 2h"), "does not lie before the end"),
        (changed(MORTALITY, "gap", start="nowhere.end"), "window 'nowhere' that does not exist"),
        (changed(MORTALITY, "gap", start="target.end"), "in a circle"),
        (changed(MORTALITY, "gap", end="start => death"), "is not such as"),
        (changed(MORTALITY, "gap", has={"death": "none"}), r"is not \(least, most\)"),
        (changed(MORTALITY, "gap", label="death"), "exactly one window needs 'label', found 2"),
        (changed(MORTALITY, "input", index_timestamp=None), "exactly one window needs 'index_timestamp', found 0"),
        (changed(MORTALITY, "input", index_timestamp="middle"), "is 'start' or 'end'"),
        ({**MORTALITY, "predicates": {**PREDICATES, "death": {"code": {"regex": "("}}}}, "no regular expression"),
        (
            {**MORTALITY, "predicates": {**PREDICATES, "death": {"code": "D", "static": True}}},
            "static predicate outside",
        ),
        (
            {**MORTALITY, "predicates": {**PREDICATES, "death": {"code": "D", "other_cols": {"x": "y"}}}},
            "column 'x' is not",
        ),
        ({**MORTALITY, "predicates": {**PREDICATES, "death": {"expr": "not(lab)"}}}, r"is not 'and\(...\)'"),
        ({**MORTALITY, "predicates": {**PREDICATES, "death": {"expr": "or(death, lab)"}}}, "defined by itself"),
        ({**MORTALITY, "predicates": {**PREDICATES, "death": {"code": "D", "value_min": "x"}}}, "expected a number"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskDefinitionError, match=words):
        opened(tmp_path, content)


def test_other_columns_of_a_row(tmp_path: Path) -> None:
    predicates = {**PREDICATES, "death": {"code": "END", "other_cols": {"text_value": "died"}}}
    task = opened(tmp_path, {**MORTALITY, "predicates": predicates})
    listed = [*rows((0, IN, None), (72, "END", None)), *rows((73, HOME, None))]
    listed[1]["text_value"] = "died"
    assert [label.label for label in AcesLabels(task).of("1", listed)] == [True]
    listed[1]["text_value"] = "moved"
    assert [label.label for label in AcesLabels(task).of("1", listed)] == [False]


def test_labels_that_disagree_are_left_out_and_no_label_is_an_error(tmp_path: Path) -> None:
    labels = AcesLabels(opened(tmp_path, MORTALITY))
    with pytest.raises(CohortError, match="none of 1 triggers gives a label; gap: 1 of discharge_or_death: 1"):
        labels.given(tmp_path, [("1", rows((0, IN, None), (2, HOME, None)))])
    with pytest.raises(CohortError, match="no event of the data is 'admission'"):
        AcesLabels(opened(tmp_path, MORTALITY)).given(tmp_path, [("1", rows((0, "X", None)))])


# the commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [meds] is not installed")
    import pyarrow.parquet as parquet

    listed = []
    for subject in range(1, 61):
        died = subject % 3 == 0
        events: list[Event] = [
            (None, f"GENDER//{'MF'[subject % 2]}", None), (-400_000, "MEDS_BIRTH", None), (0, IN, None),
            (3, "LAB//Na", 130.0 + subject % 9), (72, DIED if died else HOME, None),
        ]  # fmt: skip
        events += [(72, "MEDS_DEATH", None)] if died else []
        listed += [{"subject_id": subject, **row} for row in rows(*events)]
    (tmp_path / "meds" / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(listed), tmp_path / "meds" / "data" / "0.parquet")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(MORTALITY))
    return tmp_path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_cohort_is_built_from_an_aces_task(dataset: Path) -> None:
    built = run(
        "cohort", "build", "--task", "icu", "--aces", dataset / "task.yaml", "--meds", dataset / "meds",
        "--out", dataset / "cohort", "--json",
    )  # fmt: skip
    assert built.exit_code == 0, built.output
    found = yaml.safe_load((dataset / "cohort" / "cohort.json").read_text())
    assert (found["rows"], found["positives"]) == (60, 20)


@pytest.mark.parametrize("name", ["icu.csv", "icu.parquet"])
def test_labels_are_written_and_read_back(dataset: Path, name: str) -> None:
    from risk_model.labels import GivenLabels

    out = dataset / "labels" / name
    arguments = ("cohort", "labels", "--aces", dataset / "task.yaml", "--meds", dataset / "meds", "--out", out)
    written = run(*arguments)
    assert "60 triggers, 60 labels, 20 positive" in written.output
    given = GivenLabels.open(out)
    assert {subject: times[0][1] for subject, times in given.by_subject.items()} == {
        str(subject): subject % 3 == 0 for subject in range(1, 61)
    }
    assert "exists already" in str(run(*arguments).exception)


def test_aces_tasks_are_for_meds_data(dataset: Path) -> None:
    asked = ("cohort", "build", "--task", "icu", "--out", dataset / "cohort", "--aces", dataset / "task.yaml")
    assert "--to meds" in run(*asked, "--fhir", dataset).output
    assert "give one of" in run(*asked, "--meds", dataset / "meds", "--label", "x").output
