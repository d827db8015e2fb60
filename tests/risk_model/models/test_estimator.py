"""The shipped models: opened only when whole, silent outside their population, explained exactly."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment
from sklearn.metrics import average_precision_score, roc_auc_score

from fhir_mapping import CopiedBlock, PatientRecord
from risk_model import (
    IN_HOSPITAL_MORTALITY,
    READMISSION_30D,
    ModelArtifactError,
    Pipeline,
    RiskModel,
    TrainingError,
    model_card,
    risk_assessment,
)
from risk_model.core.values import Experiencer, Polarity, Temporality
from risk_model.evaluation.metrics import auprc, auroc, calibration_slope, measure
from risk_model.first_stage.training_rows import TrainingRows, patient_folds
from risk_model.models.estimator import shipped_folder
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.predictors.boosting import load_booster, xgboost
from risk_model.reports.model_cards import ATTRIBUTES
from tests.end_to_end.golden import EXAMPLES


def chart(case: str) -> list[dict[str, Any]]:
    bundle = json.loads((EXAMPLES / case / "bundle.json").read_text("utf-8"))
    return [entry["resource"] for entry in bundle["entry"]]


def icu(
    change: Callable[[list[dict[str, Any]]], None] = lambda _: None, at: str = "2024-02-11T03:00:00Z"
) -> PatientRecord:
    resources = chart("sepsis-icu-first-day")
    change(resources)
    return PatientRecord.from_resources(resources, prediction_time=at, encounter_id="icu")


def home(change: Callable[[list[dict[str, Any]]], None] = lambda _: None) -> PatientRecord:
    resources = chart("diabetic-heart-failure-discharge")
    change(resources)
    return PatientRecord.from_resources(resources, prediction_time="2024-05-09T11:00:00Z", encounter_id="stay")


@pytest.fixture(scope="module")
def models() -> dict[str, RiskModel]:
    return {task: RiskModel.open(shipped_folder(task)) for task in (IN_HOSPITAL_MORTALITY, READMISSION_30D)}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.shipped()


@pytest.mark.parametrize("task", [IN_HOSPITAL_MORTALITY, READMISSION_30D])
@pytest.mark.parametrize("name", ["model.ubj", "card.json"])
def test_one_flipped_bit_and_the_model_is_not_opened(tmp_path: Path, task: str, name: str) -> None:
    folder = tmp_path / task
    shutil.copytree(shipped_folder(task), folder)
    RiskModel.open(folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(ModelArtifactError, match="altered"):
        RiskModel.open(folder)


def test_a_model_with_other_inputs_than_the_manifest_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shipped_folder(READMISSION_30D), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"][0]["name"] = "shoe_size.last"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelArtifactError, match="inputs"):
        RiskModel.open(folder)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ModelArtifactError):
        RiskModel.open(tmp_path)
    with pytest.raises(ModelArtifactError):
        RiskModel.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "files",
    [
        {},
        [],
        {"card.json": {"sha256": "0", "bytes": 1}},
        {"model.ubj": "abc", "card.json": "abc"},
        {"model.ubj": {}, "card.json": {}},
        {"model.ubj": {}, "card.json": {}, "../card.json": {}},
    ],
)
def test_a_manifest_must_sign_what_is_opened(tmp_path: Path, files: Any) -> None:
    """A manifest that named no files let any model file through unchecked."""
    folder = tmp_path / "model"
    shutil.copytree(shipped_folder(READMISSION_30D), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
    with pytest.raises(ModelArtifactError):
        RiskModel.open(folder)


def test_a_signed_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shipped_folder(READMISSION_30D), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "model.ubj").write_bytes(b"not a model")
    manifest["files"]["model.ubj"] = {"sha256": hashlib.sha256(b"not a model").hexdigest(), "bytes": 11}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelArtifactError, match="not a model"):
        RiskModel.open(folder)


def no_icu(resources: list[dict[str, Any]]) -> None:
    for resource in resources:
        if resource["resourceType"] == "Encounter":
            resource.pop("type", None)


def bare(resources: list[dict[str, Any]]) -> None:
    resources[:] = [r for r in resources if r["resourceType"] != "Observation"]


def young(resources: list[dict[str, Any]]) -> None:
    resources[0]["birthDate"] = "2015-01-01"


def ageless(resources: list[dict[str, Any]]) -> None:
    del resources[0]["birthDate"]


def no_diabetes(resources: list[dict[str, Any]]) -> None:
    resources[:] = [r for r in resources if "E11" not in json.dumps(r.get("code", {}))]


def died(resources: list[dict[str, Any]]) -> None:
    resources[0]["deceasedDateTime"] = "2024-01-01"


def hospice(resources: list[dict[str, Any]]) -> None:
    for resource in resources:
        if resource.get("hospitalization"):
            resource["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] = "hosp"


def under(code: str, system: str = "http://hl7.org/fhir/sid/icd-10-cm") -> Callable[[list[dict[str, Any]]], None]:
    """One more active condition."""

    def add(resources: list[dict[str, Any]]) -> None:
        subject = {"reference": f"Patient/{resources[0]['id']}"}
        coded = {"coding": [{"system": system, "code": code}]}
        resources.append({"resourceType": "Condition", "id": "more", "subject": subject, "code": coded})

    return add


def seen_by(code: str) -> Callable[[list[dict[str, Any]]], None]:
    """Another service for every encounter."""

    def change(resources: list[dict[str, Any]]) -> None:
        for resource in resources:
            if resource["resourceType"] == "Encounter":
                resource["serviceType"] = {"coding": [{"system": "http://snomed.info/sct", "code": code}]}

    return change


def no_sex(resources: list[dict[str, Any]]) -> None:
    del resources[0]["gender"]


SNOMED = "http://snomed.info/sct"
ABSTAINS: list[tuple[str, Callable[[], PatientRecord], str, str]] = [
    ("ward", lambda: icu(no_icu), IN_HOSPITAL_MORTALITY, "not-intensive-care"),
    ("first hours", lambda: icu(at="2024-02-10T08:00:00Z"), IN_HOSPITAL_MORTALITY, "too-early"),
    ("fourth day", lambda: icu(at="2024-02-14T08:00:00Z"), IN_HOSPITAL_MORTALITY, "too-late"),
    ("nothing measured", lambda: icu(bare), IN_HOSPITAL_MORTALITY, "too-little-data"),
    ("child", lambda: icu(young), IN_HOSPITAL_MORTALITY, "too-young"),
    ("age unknown", lambda: icu(ageless), IN_HOSPITAL_MORTALITY, "age-unknown"),
    ("no diabetes", lambda: home(no_diabetes), READMISSION_30D, "outside-population"),
    ("sex unknown, as it never was in training", lambda: home(no_sex), READMISSION_30D, "input-unknown"),
    ("dead", lambda: home(died), READMISSION_30D, "deceased"),
    ("hospice", lambda: home(hospice), READMISSION_30D, "died-or-hospice"),
    ("palliative care", lambda: icu(under("Z51.5")), IN_HOSPITAL_MORTALITY, "hospice"),
    ("hospice care", lambda: home(under("385763009", SNOMED)), READMISSION_30D, "hospice"),
    ("palliative service", lambda: icu(seen_by("394806003")), IN_HOSPITAL_MORTALITY, "hospice"),
    ("pre-eclampsia", lambda: icu(under("O14.1")), IN_HOSPITAL_MORTALITY, "obstetric"),
    ("pregnancy", lambda: home(under("77386006", SNOMED)), READMISSION_30D, "obstetric"),
    ("obstetric service", lambda: icu(seen_by("408470005")), IN_HOSPITAL_MORTALITY, "obstetric"),
]


@pytest.mark.parametrize(("name", "make", "task", "code"), ABSTAINS, ids=[row[0] for row in ABSTAINS])
def test_outside_its_population_a_model_abstains_with_the_reason(
    models: dict[str, RiskModel], name: str, make: Callable[[], PatientRecord], task: str, code: str
) -> None:
    estimate = models[task].estimate(make())
    assert estimate.probability is None
    assert estimate.abstention is not None
    assert estimate.abstention.code == code
    assert estimate.abstention.reason.endswith(".")


@pytest.mark.parametrize("code", ["Z51.1", "N93.9", "Z51"])
def test_neighbours_of_excluded_codes_do_not_exclude(models: dict[str, RiskModel], code: str) -> None:
    """Chemotherapy and gynaecology are not what stands beside them in the book."""
    assert models[IN_HOSPITAL_MORTALITY].estimate(icu(under(code))).abstention is None


def test_inside_its_population_it_answers_with_an_interval_that_holds_it(models: dict[str, RiskModel]) -> None:
    for estimate in (models[IN_HOSPITAL_MORTALITY].estimate(icu()), models[READMISSION_30D].estimate(home())):
        assert estimate.probability is not None
        assert estimate.interval is not None
        assert estimate.interval[0] <= estimate.probability <= estimate.interval[1]
        assert estimate.drivers
        assert estimate.comparators


def test_several_rows_of_one_patient_count_as_one_in_the_interval(models: dict[str, RiskModel]) -> None:
    """8,000 rows of 4,000 patients once counted as 8,000 patients, and the intervals were too narrow by a quarter."""
    model = models[IN_HOSPITAL_MORTALITY]
    assert model.manifest["rows"] == 2 * model.manifest["patients"]
    as_patients = replace(model, conformal=None)  # no conformal borders: Wilson's interval
    as_rows = replace(as_patients, manifest={**model.manifest, "patients": model.manifest["rows"]})

    def width(opened: RiskModel) -> float:
        spans = [opened.interval(item["probability"]) for item in model.manifest["reliability"]]
        return sum(high - low for low, high in spans)

    # Not quite the square root of two: an interval is stretched to its estimate where the bins miss it.
    assert width(as_patients) / width(as_rows) == pytest.approx(math.sqrt(2), abs=0.15)


@pytest.mark.parametrize(("library", "opens"), [("3.0.5", False), ("3.1.9", False), ("3.2.0", True), ("4.0.1", True)])
def test_a_library_older_than_the_model_is_refused(monkeypatch: pytest.MonkeyPatch, library: str, opens: bool) -> None:
    """xgboost 3.0 opened the shipped model, which 3.2 wrote, without an error, and 22 % became 67 %."""
    path = shipped_folder(READMISSION_30D) / "model.ubj"
    monkeypatch.setattr(xgboost(), "__version__", library)
    if opens:
        assert load_booster(path).num_boosted_rounds() > 0
    else:
        with pytest.raises(ModelArtifactError, match=r"written by xgboost 3\.2.*install 3.2 or newer"):
            load_booster(path)


def test_a_model_without_its_xgboost_version_is_rejected(tmp_path: Path) -> None:
    whole = (shipped_folder(READMISSION_30D) / "model.ubj").read_bytes()
    (tmp_path / "model.ubj").write_bytes(whole.replace(b"\x07version", b"\x07verzion"))
    with pytest.raises(ModelArtifactError):
        load_booster(tmp_path / "model.ubj")


@pytest.mark.parametrize("task", [IN_HOSPITAL_MORTALITY, READMISSION_30D])
def test_contributions_add_up_to_the_estimate(models: dict[str, RiskModel], task: str) -> None:
    estimate = models[task].estimate(icu() if task == IN_HOSPITAL_MORTALITY else home())
    assert estimate.probability is not None
    assert estimate.reference is not None
    logits = [math.log(p / (1 - p)) for p in (estimate.probability, estimate.reference)]
    assert logits[0] - logits[1] == pytest.approx(sum(part for _, part in estimate.contributions), abs=1e-4)
    assert {driver.concept for driver in estimate.drivers} <= {concept for concept, _ in estimate.contributions}


def test_nothing_recorded_later_moves_the_estimate(models: dict[str, RiskModel]) -> None:
    def later(resources: list[dict[str, Any]]) -> None:
        resources.append(json.loads(json.dumps(resources[-4])) | {"id": "late", "effectiveDateTime": "2024-02-12"})

    model = models[IN_HOSPITAL_MORTALITY]
    assert model.estimate(icu(later)).probability == model.estimate(icu()).probability


def test_notes_are_read_with_their_words_and_do_not_move_the_number(pipeline: Pipeline) -> None:
    def silent(resources: list[dict[str, Any]]) -> None:
        resources[:] = [r for r in resources if r["resourceType"] != "DocumentReference"]

    with_notes = pipeline.assess(home(), READMISSION_30D)
    without = pipeline.assess(home(silent), READMISSION_30D)
    assert with_notes.estimate.probability == without.estimate.probability
    assert with_notes.findings.notes_read == 2
    assert with_notes.findings.embedding is None  # no shipped model has a head for it: it is not computed


def test_an_embedding_is_there_for_models_that_use_it(pipeline: Pipeline) -> None:
    embedding = RuleNoteReader(pipeline.index).read(home().notes()).embedding
    assert embedding is not None
    assert float(np.linalg.norm(embedding)) == pytest.approx(1, abs=1e-5)
    assert RuleNoteReader(pipeline.index).read(()).embedding is None


def test_a_note_that_is_known_is_read_the_same(pipeline: Pipeline) -> None:
    """Under another source too: the words are remembered, not whose copy of them it was."""
    notes = home().notes()
    copies = [replace(note, source=f"DocumentReference/copy-{i}") for i, note in enumerate(notes)]
    fresh, known = RuleNoteReader(pipeline.index, embed=False), RuleNoteReader(pipeline.index, embed=False)
    known.read(notes)
    assert known.read(notes) == fresh.read(notes)
    assert known.read(copies) == RuleNoteReader(pipeline.index, embed=False).read(copies)


def test_what_a_note_copied_from_an_earlier_one_counts_there_only(pipeline: Pipeline) -> None:
    said = "Admitted with pneumonia and sepsis from the lungs, treated with antibiotics and fluids, now much improved."
    home_chart = home()
    first, *_ = home_chart.notes()
    earlier = replace(first, source="DocumentReference/1", text=said, sections=(), copied=())
    block = CopiedBlock(8, 8 + len(said), earlier.source)
    later = replace(earlier, source="DocumentReference/2", text=f"Better.\n{said}", copied=(block,))
    reader = RuleNoteReader(pipeline.index, embed=False)
    assert {f.note_source for f in reader.read([later, earlier]).findings} == {"DocumentReference/1"}
    assert {f.note_source for f in reader.read([later]).findings} == {"DocumentReference/2"}
    assert reader.read([later, earlier]).unanchored_dropped == 0


def test_every_finding_is_the_notes_own_words(pipeline: Pipeline) -> None:
    record = home()
    texts = {note.source: note.text for note in record.notes()}
    findings = pipeline.reader.read(record.notes()).findings
    assert findings
    for finding in findings:
        assert texts[finding.note_source][finding.start : finding.end] == finding.quote
    by_name = {(f.name, f.experiencer): f for f in findings}
    assert by_name[("Myocardial Infarction", Experiencer.FAMILY)]
    assert next(f for f in findings if f.name == "Chest Pain").polarity is Polarity.ABSENT
    assert any(f.temporality is Temporality.CURRENT for f in findings)


@pytest.mark.parametrize("abstains", [True, False])
def test_the_answer_is_a_valid_fhir_risk_assessment(pipeline: Pipeline, abstains: bool) -> None:
    assessment = pipeline.assess(home(no_diabetes) if abstains else home(), READMISSION_30D)
    resource = RiskAssessment.model_validate(risk_assessment(assessment))
    assert (resource.prediction[0].probabilityDecimal is None) is abstains


@pytest.mark.parametrize("task", [IN_HOSPITAL_MORTALITY, READMISSION_30D])
def test_a_model_card_says_all_31_things_in_three_forms(task: str) -> None:
    card = model_card(shipped_folder(task))
    texts = [text for group in card.attributes.values() for text in group.values()]
    assert len(texts) == 31 == sum(len(names) for names in ATTRIBUTES.values())
    assert all(text.strip() for text in texts)
    assert "AUROC" in card.attributes["performance"]["internal_validity"]
    assert "<script" not in card.to_html()
    said = " ".join(ElementTree.fromstring(card.to_chai_xml()).itertext()).replace('\\"', '"')
    assert all(text in said for text in texts)


def test_metrics_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    outcome = (generator.random(500) < 0.2).astype(float)
    score = np.round(np.clip(outcome * 0.2 + generator.random(500) * 0.7, 0.01, 0.99), 2)
    assert auroc(outcome, score) == pytest.approx(roc_auc_score(outcome, score))
    assert auprc(outcome, score) == pytest.approx(average_precision_score(outcome, score))


def test_a_calibrated_forecast_has_slope_one_and_intervals_hold_it() -> None:
    generator = np.random.default_rng(4)
    probability = generator.uniform(0.05, 0.9, 20_000)
    outcome = (generator.random(20_000) < probability).astype(float)
    assert calibration_slope(outcome, probability) == pytest.approx(1, abs=0.05)
    metrics = measure(outcome[:2000], probability[:2000], [str(n) for n in range(2000)], bootstraps=100)
    low, high = metrics["auroc"]["interval"]
    assert low < metrics["auroc"]["value"] < high


def cohort(y: list[float], patients: list[str] | None = None) -> TrainingRows:
    x = np.zeros((len(y), 1), np.float32)
    return TrainingRows(READMISSION_30D, ("age.last",), x, np.array(y), tuple(patients or map(str, range(len(y)))))


@pytest.mark.parametrize(
    ("y", "patients"),
    [
        ([], None),
        ([0.0] * 50, None),
        ([1.0] * 50, None),
        ([1.0] + [0.0] * 50, None),
        ([0.0, 1.0] * 30, ["a", "b"] * 30),
    ],
)
def test_a_cohort_unusable_for_training_is_rejected(y: list[float], patients: list[str] | None) -> None:
    with pytest.raises(TrainingError):
        cohort(y, patients).check()


def test_all_rows_of_a_patient_are_in_one_fold() -> None:
    patients = [f"p{n % 37}" for n in range(500)]
    folds = patient_folds(patients)
    assert len({(p, int(f)) for p, f in zip(patients, folds, strict=True)}) == 37
    assert len(set(folds.tolist())) == 5
