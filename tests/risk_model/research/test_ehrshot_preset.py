"""The EHRSHOT preset: official names, instructions, findings, shots, vectors made elsewhere, and paired tests."""

# ruff: noqa: DTZ001  # MEDS times have no zone
from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from risk_model.core.errors import CohortError, TrainingError
from risk_model.features.record_encoding import QUESTION
from risk_model.research.ablations import compared_encoders
from risk_model.research.ehrshot_shots import places_of, read_shots, shot_files
from risk_model.research.ehrshot_tasks import (
    FINDINGS,
    OFFICIAL,
    Instructions,
    finding_labels,
    group_of,
    read_instructions,
    tasks_named,
)
from risk_model.research.few_shot import (
    LEARNERS,
    FewShotSplit,
    Representation,
    patient_weights,
    read_parts,
    run_few_shot,
)
from risk_model.research.given_vectors import GivenVectors
from risk_model.research.meds_examples import Examples, PredictionExample, by_task, examples_from_label_files
from risk_model.research.meds_markdown import PARTS
from risk_model.research.paired_tests import comparisons, paired

NOON = datetime(2020, 5, 1, 12)


# tasks and instructions ------------------------------------------------------------------------------------------------


def test_the_preset_has_15_tasks_each_with_its_own_question() -> None:
    assert len(OFFICIAL) == 15
    asked = {Instructions().of(item.official) for item in OFFICIAL}
    assert len(asked) == 15
    assert QUESTION not in asked
    assert all(Instructions().of(item.official) == Instructions().of(item.task) for item in OFFICIAL)
    assert Instructions().of("chexpert: Edema") == Instructions().of("chexpert")
    assert Instructions().of("a task of my own") == QUESTION


def test_either_name_of_a_task_is_taken() -> None:
    assert tasks_named("ehrshot", labels=True) == tuple(item.official for item in OFFICIAL)
    assert tasks_named("ehrshot", labels=False) == tuple(item.task for item in OFFICIAL)
    assert tasks_named("guo_icu,icu_transfer, mine", labels=False) == ("icu_transfer", "mine")


def test_every_task_of_ours_has_a_definition_and_a_group() -> None:
    from risk_model.labels import find_definition

    assert {find_definition(item.task, "ehrshot").id for item in OFFICIAL} == {item.task for item in OFFICIAL}
    sizes = {group: [item.group for item in OFFICIAL].count(group) for group in (item.group for item in OFFICIAL)}
    assert sizes == {"operational outcomes": 3, "laboratory results": 5, "new diagnoses": 6, "chest X-ray findings": 1}
    assert group_of("chexpert: Edema") == "chest X-ray findings"


def test_instructions_of_a_file_replace_ours(tmp_path: Path) -> None:
    file = tmp_path / "asked.yaml"
    file.write_text("prefix: Given a record\nlong_stay: will it be long?\ndefault: what next?\n")
    given = read_instructions(file, ("guo_los", "new_lupus"))
    assert Instructions("task", given).of("guo_los") == "Given a record: will it be long?"
    assert Instructions("task", given).of("new_lupus") == "Given a record: what next?"
    assert Instructions("generic", given).of("guo_los") == QUESTION
    assert Instructions("none", given).of("guo_los") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n", "mapping"), ("", "mapping"), ("guo_los: 3\n", "'guo_los' is no text"), ("a: [", "neither JSON nor YAML"),
        ("guo_los: x\n", "no instruction for new_lupus"),
    ],
)  # fmt: skip
def test_instructions_that_cannot_be_used_say_why(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "asked.yaml").write_text(content)
    with pytest.raises(CohortError, match=words):
        read_instructions(tmp_path / "asked.yaml", ("guo_los", "new_lupus"))


def test_ablations_add_each_contender_once() -> None:
    names = [
        item.name for item in compared_encoders(["minilm"], ["codes", "markdown"], {}, ["serialisation", "instruction"])
    ]
    assert names == [
        "minilm, codes", "minilm, markdown", *(f"minilm, markdown-without-{part}" for part in PARTS),
        "minilm, codes, generic instruction", "minilm, codes, no instruction",
    ]  # fmt: skip


# chest X-rays ----------------------------------------------------------------------------------------------------------


def test_the_number_of_a_chest_xray_label_holds_14_findings(tmp_path: Path) -> None:
    (tmp_path / "chexpert").mkdir()
    (tmp_path / "chexpert" / "labeled_patients.csv").write_text(
        "patient_id,prediction_time,value,label_type\n1,2020-05-01T12:00,8192,categorical\n2,2020-05-01T12:00,9,categorical\n"
    )
    rows = examples_from_label_files(tmp_path, ["chexpert"], {}, 0.3, 0.3)["chexpert"]
    split = by_task({"chexpert": Examples(tmp_path, rows)})
    assert list(split) == [f"chexpert: {finding}" for finding in FINDINGS]
    found = {task: [row.label for row in each.rows] for task, each in split.items() if any(r.label for r in each.rows)}
    assert found == {
        "chexpert: No Finding": [1, 0],
        "chexpert: Pleural Effusion": [0, 1],
        "chexpert: Support Devices": [0, 1],
    }
    assert sum(finding_labels(2**14 - 1)) == 14


@pytest.mark.parametrize("value", ["16384", "-1", "0.5", "True"])
def test_other_numbers_are_no_findings(tmp_path: Path, value: str) -> None:
    (tmp_path / "chexpert.csv").write_text(f"subject_id,prediction_time,value\n1,2020-05-01,{value}\n")
    with pytest.raises(CohortError, match="14 findings"):
        examples_from_label_files(tmp_path, ["chexpert"], {}, 0.3, 0.3)


# official shots --------------------------------------------------------------------------------------------------------


def shots_of(train: list[int], val: list[int], labels: tuple[list[int], list[int]]) -> dict[str, Any]:
    def part(name: str, subjects: list[int], values: list[int]) -> dict[str, Any]:
        return {
            f"patient_ids_{name}_k": subjects,
            f"label_times_{name}_k": [NOON.isoformat()] * len(subjects),
            f"label_values_{name}_k": values,
            f"{name}_idxs": [0] * len(subjects),
        }

    return part("train", train, labels[0]) | part("val", val, labels[1])


ROWS = tuple(
    PredictionExample(str(n), NOON, n % 2, split)
    for n, split in enumerate(["train"] * 4 + ["validation"] * 4 + ["test"] * 4)
)


def written(folder: Path, content: Any) -> Path:
    (folder / "guo_los").mkdir()
    (folder / "guo_los" / "all_shots_data.json").write_text(json.dumps(content))
    return folder


def test_official_draws_are_found_by_patient_and_time(tmp_path: Path) -> None:
    once, twice = shots_of([3, 0], [5, 6], ([1, 0], [1, 0])), shots_of([1, 1, 0, 2], [4, 7], ([1, 1, 0, 0], [0, 1]))
    folder = written(tmp_path, {"guo_los": {"2": {"0": twice}, "1": {"0": once, "1": once}, "-1": {"0": once}}})
    shots = read_shots(shot_files(folder))["guo_los"]
    assert list(shots) == [1, 2]
    found = places_of(shots, ROWS, "guo_los")
    assert [len(draws) for draws in found.values()] == [2, 1]
    assert [part.tolist() for part in found[1][0]] == [[3, 0], [1, 2]]
    assert [part.tolist() for part in found[2][0]] == [[1, 1, 0, 2], [0, 3]]


def test_the_learners_see_the_rows_of_the_draw_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def learner(x: Any, y: Any, held: Any, truth: Any) -> Any:
        seen.append((x.ravel().tolist(), y.tolist(), held.ravel().tolist(), truth.tolist()))
        return lambda rows: rows.ravel()

    monkeypatch.setitem(LEARNERS, "logistic", learner)  # type: ignore[arg-type]
    parts = {}
    for split in ("train", "validation", "test"):
        rows = [row for row in ROWS if row.split == split]
        y = np.array([float(row.label) for row in rows])
        x = np.array([[float(row.subject_id)] for row in rows])
        parts[split] = FewShotSplit(y, np.array([row.subject_id for row in rows]), {"x": x})
    chosen = {1: [(np.array([3, 0]), np.array([1, 2]))]}
    result = run_few_shot(parts, representations=[Representation("x", "x", "logistic")], chosen=chosen, bootstraps=50)
    assert list(result.table) == ["1", "all"]
    assert seen[0] == ([3.0, 0.0], [1.0, 0.0], [5.0, 6.0], [1.0, 0.0])
    assert len(result.samples["1"]["x"]) == 51


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (shots_of([9, 0], [5, 6], ([1, 0], [1, 0])), "not among the train rows"),
        (shots_of([3, 0], [1, 6], ([1, 0], [1, 0])), "not among the validation rows"),
        (shots_of([3, 1], [5, 6], ([1, 0], [1, 0])), "another label"),
        ({}, "expected a mapping"),
        ({"patient_ids_train_k": [1]}, "no list 'label_times_train_k'"),
        (shots_of([3, 0], [5, 6], ([1], [1, 0])), "differ in length"),
    ],
)
def test_shots_of_other_data_or_none_say_why(tmp_path: Path, draw: Any, words: str) -> None:
    folder = written(tmp_path, {"guo_los": {"1": {"0": draw}}})
    with pytest.raises(CohortError, match=words):
        places_of(read_shots(shot_files(folder))["guo_los"], ROWS, "guo_los")


def test_a_folder_without_shots_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"all_shots_data\.json"):
        shot_files(tmp_path)


# vectors made elsewhere ------------------------------------------------------------------------------------------------


def save(path: Path, subjects: list[int], vectors: Any, time: datetime = NOON) -> Path:
    times = np.array([time] * len(subjects), "datetime64[s]")
    np.savez(path, subject_id=np.array(subjects), prediction_time=times, vectors=np.asarray(vectors, np.float32))
    return path


def test_given_vectors_follow_the_order_of_the_rows(tmp_path: Path) -> None:
    given = GivenVectors.open("clmbr", save(tmp_path / "v.npz", list(range(11, -1, -1)), np.arange(24).reshape(12, 2)))
    np.testing.assert_array_equal(given.matrix(ROWS[:3], "t"), [[22, 23], [20, 21], [18, 19]])


def test_vectors_in_parquet_and_times_as_text(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [meds] is not installed")
    import pyarrow.parquet as parquet

    table = {"subject_id": [1, 0], "prediction_time": [NOON, NOON], "vector": [[1.0, 2.0], [3.0, 4.0]]}
    parquet.write_table(pyarrow.table(table), tmp_path / "v.parquet")
    np.testing.assert_array_equal(
        GivenVectors.open("v", tmp_path / "v.parquet").matrix(ROWS[:2], "t"), [[3, 4], [1, 2]]
    )
    np.savez(tmp_path / "t.npz", subject_id=["1"], prediction_time=[NOON.isoformat()], vectors=np.ones((1, 2)))
    assert GivenVectors.open("t", tmp_path / "t.npz").matrix(ROWS[1:2], "t").tolist() == [[1, 1]]


def test_vectors_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    incomplete = GivenVectors.open("v", save(tmp_path / "a.npz", [0], [[1.0]]))
    with pytest.raises(CohortError, match="no vector for 11 of 12 predictions of lupus"):
        incomplete.matrix(ROWS, "lupus")
    with pytest.raises(CohortError, match="two different vectors"):
        GivenVectors.open("v", save(tmp_path / "b.npz", [0, 0], [[1.0], [2.0]]))
    with pytest.raises(CohortError, match="not finite"):
        GivenVectors.open("v", save(tmp_path / "c.npz", [0], [[np.nan]]))
    with pytest.raises(CohortError, match="1 subjects, 1 times, vectors"):
        GivenVectors.open("v", save(tmp_path / "d.npz", [0], [[[1.0]]]))
    np.savez(tmp_path / "e.npz", subject_id=[1])
    with pytest.raises(CohortError, match="no array 'prediction_time'"):
        GivenVectors.open("v", tmp_path / "e.npz")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "clmbr_features.pkl").write_bytes(pickle.dumps({"data_matrix": 1}))
    with pytest.raises(CohortError, match="a pickle is not opened"):
        GivenVectors.open("clmbr", tmp_path / "clmbr_features.pkl")
    np.savez(tmp_path / "o.npz", subject_id=np.array([object()]), prediction_time=[1], vectors=[[1.0]])
    with pytest.raises(CohortError, match="without pickles"):
        GivenVectors.open("v", tmp_path / "o.npz")


# learners and paired tests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["boosted", "lightgbm", "logistic"])
def test_one_example_of_each_kind_is_enough(learner: str) -> None:
    if learner == "lightgbm":
        pytest.importorskip("lightgbm", reason="the extra [benchmark] is not installed: make llm")
    x, y = np.array([[0.0, 3.0], [4.0, 3.0]], np.float32), np.array([0.0, 1.0])
    scores = LEARNERS[learner](x, y, x, y)(np.array([[0.0, 3.0], [5.0, 3.0]], np.float32))
    assert scores[1] > scores[0]


def test_a_patient_has_one_weight_in_every_task() -> None:
    one, other = patient_weights(np.array(["a", "b", "b"]), 40), patient_weights(np.array(["c", "b"]), 40)
    np.testing.assert_array_equal(one[:, 1], one[:, 2])
    np.testing.assert_array_equal(one[:, 1], other[:, 1])
    assert not np.array_equal(one[:, 0], other[:, 0])
    many = patient_weights(np.arange(500).astype(str), 40)
    assert many.mean() == pytest.approx(1.0, abs=0.03)


def test_a_paired_difference_is_seen_where_intervals_overlap() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 401)
    base = 0.7 + noise
    better = paired(base + 0.02 + np.random.default_rng(2).normal(0, 0.001, 401), base)
    equal = paired(base + np.random.default_rng(3).normal(0, 0.01, 401), base)
    assert better is not None
    assert equal is not None
    assert better["interval"][0] > 0
    assert better["p"] == pytest.approx(2 / 401)
    assert equal["interval"][0] < 0 < equal["interval"][1]
    assert equal["p"] > 0.1
    assert paired(np.array([0.7, np.nan, np.nan, 0.6]), np.array([0.6, np.nan, np.nan, 0.5])) is None


def test_findings_count_as_one_task_in_the_mean() -> None:
    flat, half = np.full(11, 0.5), np.full(11, 0.6)
    tasks = {f"chexpert: {finding}": {"1": {"a": flat, "b": half}} for finding in FINDINGS}
    tasks["guo_los"] = {"1": {"a": flat, "b": flat}}
    found = comparisons(tasks, "a")
    assert found["mean"]["1"]["b"]["value"] == pytest.approx(0.05)
    assert found["tasks"]["guo_los"]["1"]["b"]["p_holm"] == 1.0
    assert all(item["p_holm"] >= item["p"] for by_k in found["tasks"].values() for item in by_k["1"].values())


def test_times_with_seconds_are_other_times(tmp_path: Path) -> None:
    given = GivenVectors.open("v", save(tmp_path / "v.npz", [0], [[1.0]], NOON + timedelta(seconds=1)))
    with pytest.raises(CohortError, match="no vector for 1 of 1"):
        given.matrix(ROWS[:1], "t")


def test_few_shot_checks_labels_before_it_embeds() -> None:
    """A cohort of one class was once refused after its records had been embedded."""

    class Cohort:
        task = "readmission_30d"

        def split(self, name: str) -> list[PredictionExample]:
            return [
                PredictionExample("1", NOON, 0, name),
                PredictionExample("2", NOON, int(name != "validation"), name),
            ]

        def records(self, _: str) -> None:
            raise AssertionError("read a record")

    with pytest.raises(TrainingError, match="the validation split has one class only"):
        read_parts(Cohort(), None)  # type: ignore[arg-type]  # neither is used before the check


def test_a_resample_without_an_outcome_has_no_auroc_and_too_few_are_an_error() -> None:
    y, x = np.array([1.0, 0, 0, 0]), np.array([[3.0], [1], [2], [0]])
    split = FewShotSplit(y, np.array(["a", "b", "c", "d"]), {"x": x})
    parts = dict.fromkeys(("train", "validation", "test"), split)
    item = Representation("x", "x", "logistic")
    samples = run_few_shot(parts, representations=[item], shots=(), bootstraps=60).samples["all"]["x"]
    assert samples[0] == 1.0
    assert 0 < np.isnan(samples).sum() < 60
    with pytest.raises(TrainingError, match="no resample of the test split"):
        run_few_shot(parts, representations=[item], shots=(), bootstraps=0)
