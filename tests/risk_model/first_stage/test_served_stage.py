"""A language model's own estimate as first stage, the whole way: trained beside, kept, served, read ahead, replayed."""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from artifact_store import PerProcess
from cds_service.application.factory import create_app
from cds_service.background import language_models
from cds_service.background.language_models import ModelServers, OpenedModels
from cds_service.cli import cli
from cds_service.commands.modelling.first_stage import exclude_tuning_patients, stage_of
from cds_service.commands.service import doctor
from cds_service.commands.service.read_ahead import desks_of
from cds_service.commands.shared.model_sources import sources_of
from cds_service.config.settings import Settings
from cds_service.explanations.risk_now import risk_now
from fhir_mapping import PatientRecord
from risk_model import ModelArtifactError, Pipeline, RiskModel
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.artifacts import sign
from risk_model.core.errors import LanguageModelError, TrainingError
from risk_model.evaluation.evaluate import as_served, predict_cohort
from risk_model.first_stage.fusion import without_notes
from risk_model.first_stage.note_stage import FILE
from risk_model.first_stage.patient_opinions import ask_about_patients, asked_windows
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm.registry import ReaderName, language_model, model_identity
from risk_model.llm.weights import SMOLLM2
from risk_model.llm_tuning.risk_examples import hashed
from risk_model.models.note_bounds import NOTE_BOUND
from tests.cds_service.commands.test_command_train_stage1 import chart_of, hook_of
from tests.cds_service.model_server import ModelServer, model_server
from tests.patience import PATIENT, patient
from tests.risk_model.note_texts import note
from tests.risk_model.ward import ward, write

TASK = "readmission_30d"
URL = "/cds-services/readmission-30d"
SAID = '{"risk": "high", "rationale": "No chest pain."}'


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], env=env)


def done(*arguments: object, env: dict[str, str] | None = None) -> Result:
    result = run(*arguments, env=env)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def opened(smollm2: LocalLanguageModel) -> Iterator[None]:
    """SmolLM2 is opened once for all commands of this module."""

    def one(name: ReaderName, servers: Any = None, **options: Any) -> Any:
        return smollm2 if name.model == SMOLLM2 else language_model(name, servers, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_models, "language_model", one)
        yield


@pytest.fixture(scope="module")
def work(opened: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """export/, cohort/, and model/ whose first stage is SmolLM2."""
    folder = tmp_path_factory.mktemp("stage")
    write(folder / "export", ward(45, seed=11, shift=1.5))
    done("cohort", "build", "--task", TASK, "--fhir", folder / "export", "--out", folder / "cohort")
    trained = done(
        "train", "--task", TASK, "--cohort", folder / "cohort", "--out", folder / "model", "--bootstraps", "20",
        "--note-reader", "rules", "--stage1", SMOLLM2,
    )  # fmt: skip
    assert "passages answered: 2 of 2" in trained.stderr
    return folder


@pytest.fixture(scope="module")
def model(work: Path) -> RiskModel:
    return RiskModel.open(work / "model")


@pytest.fixture(scope="module")
def record(work: Path) -> PatientRecord:
    """A patient the model never saw, with a note."""
    listed = [record for _, record in LabelledCohort.open(work / "cohort").records("test")]
    return next(r for r in listed if r.notes() and r.current_stay is not None and r.current_stay.source.endswith("-a"))


@dataclass(frozen=True)
class Service:
    """The service over a folder of models, its settings as a worker gets them, and its first stage's queue."""

    settings: Settings
    client: FlaskClient
    env: dict[str, str]
    pipeline: Pipeline

    @property
    def queue(self) -> Any:
        return self.pipeline._opining[TASK]._answers  # type: ignore[attr-defined]

    def card(self, work: Path, record: PatientRecord) -> dict[str, Any]:
        """The card of a hook, after what it left has been written down."""
        answer = self.client.post(URL, json=hook_of(work, record)).get_json()
        self.queue.write_down()
        return dict(answer["cards"][0])

    def inputs(self, uuid: str) -> dict[str, float | None]:
        with_store = self.client.application.extensions["riskcards"].store
        kept = next(item for item in with_store.card_record(uuid)["estimates"] if item["task"] == TASK)
        return dict(zip(self.pipeline.models[TASK].names, kept["inputs"], strict=True)) | {"": kept["probability"]}


def served(folder: Path, place: Path, stage1: str = "") -> Service:
    shutil.copytree(folder, place / "models" / TASK)  # makes `place` too
    shutil.copytree("risk_model/shipped/in_hospital_mortality", place / "models" / "in_hospital_mortality")
    settings = Settings(
        database_url=f"sqlite:///{place / 'cards.db'}", session_key_file=str(place / "key"),
        models=str(place / "models"), stage1_models=(stage1,) if stage1 else (),
    )  # fmt: skip
    app = create_app(patient(settings))
    env = {
        "RISKCARDS_DATABASE_URL": settings.database_url, "RISKCARDS_SESSION_KEY_FILE": settings.session_key_file,
        "RISKCARDS_MODELS": settings.models, "RISKCARDS_STAGE1_MODELS": stage1,
    }  # fmt: skip
    return Service(settings, app.test_client(), env, app.extensions["riskcards"].pipeline)


def test_what_is_kept_names_the_model_and_not_its_weights(work: Path, model: RiskModel) -> None:
    kept = json.loads((work / "model" / FILE).read_text())
    assert (kept["kind"], kept["model"]) == ("language-model", SMOLLM2)
    assert kept["fingerprint"] == model_identity(ReaderName.of(SMOLLM2))
    assert FILE in model.manifest["files"]
    assert {"stage1.logit", "rationale_embedding.logit"} <= set(model.names)
    assert model.manifest["note_bound"] == NOTE_BOUND
    relevance = json.loads(done("card", work / "model", "--format", "json").stdout)["attributes"]["development"][
        "relevance"
    ]
    assert "first stage is the language model smollm2" in relevance
    assert "at most 0.7 in log-odds, and no level" in relevance
    answers = work / "model.answers.jsonl"
    assert stat.S_IMODE(answers.stat().st_mode) == 0o600
    assert len(answers.read_text().splitlines()) == 2  # of some fifty notes two are different


def test_a_hook_does_not_wait_and_the_next_one_has_what_the_model_says(
    work: Path, model: RiskModel, record: PatientRecord, tmp_path: Path
) -> None:
    service = served(work / "model", tmp_path)
    first = service.card(work, record)
    assert "smollm2 has not read 1 passage of the notes yet: its own estimate is not part of the number" in (
        first["detail"].replace("\\", "")
    )
    assert service.inputs(first["uuid"])["stage1.logit"] is None
    ahead = done("read-ahead", "--once", env=service.env)
    assert "1 read, 0 attempts failed" in ahead.stderr
    second = service.card(work, record)
    assert "smollm2 estimates from the notes too." in second["detail"].replace("\\", "")
    found = service.inputs(second["uuid"])
    assert found["stage1.logit"] is not None
    assert second["indicator"] == first["indicator"]
    replayed = json.loads(done("replay", second["uuid"], "--json", env=service.env).stdout)
    assert replayed["estimates"]
    assert all(item["same"] for item in replayed["estimates"])


def test_no_answer_is_unknown_and_within_the_bound(model: RiskModel, record: PatientRecord) -> None:
    estimate = model.estimate(record)
    assert estimate.voice is not None
    assert estimate.voice.waiting == 1
    assert estimate.reasons == ()
    assert math.isnan(estimate.inputs[model.names.index("stage1.logit")])
    assert estimate.anchor is not None
    assert "smollm2 has not read 1 passage" in risk_now(estimate, model, record).voice


def test_evaluation_asks_the_model_and_uses_bounded_estimates(work: Path, tmp_path: Path) -> None:
    with model_server(SAID) as server:
        model = RiskModel.open(at_a_server(work / "model", server, tmp_path / "m"))
        answers = predict_cohort(PerProcess(lambda: (model, sources_of(model))), LabelledCohort.open(work / "cohort"))
        server.behaviour = "500"
        silent = predict_cohort(PerProcess(lambda: (model, sources_of(model))), LabelledCohort.open(work / "cohort"))
    rows = answers.study.cohort.x
    asked = np.isfinite(rows[:, model.names.index("stage1.logit")])
    noted = [bool(record.notes()) for _, record in LabelledCohort.open(work / "cohort").records("test")]
    np.testing.assert_array_equal(asked, noted)
    assert (answers.unspoken, silent.unspoken) == (0, sum(noted))
    odds = [
        np.log(p / (1 - p)) for p in (as_served(model, rows), model.probabilities(without_notes(model.names, rows)))
    ]
    assert np.abs(odds[0] - odds[1]).max() <= NOTE_BOUND + 1e-6


def test_patients_used_for_tuning_are_excluded_from_training_and_evaluation(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = LabelledCohort.open(work / "cohort")
    people = sorted({row.person for row in labelled.rows})
    among: list[str] = []
    monkeypatch.setattr("risk_model.llm.check_adapter", lambda _: {"outcome_tuning": {"patients": among}})
    named = "/models/base+/models/outcomes"
    assert exclude_tuning_patients(labelled, named) == exclude_tuning_patients(labelled, SMOLLM2) == labelled
    among += [hashed(person) for person in people[:5]]
    left = exclude_tuning_patients(labelled, named)
    assert {row.person for row in left.rows} == set(people[5:])
    assert f"{len(labelled.rows) - len(left.rows)} of {len(labelled.rows)} rows left out" in capsys.readouterr().err
    among += [hashed(person) for person in people]
    with pytest.raises(TrainingError, match="tuned among all these patients"):
        exclude_tuning_patients(labelled, named)
    assert stage_of(RiskModel.open(work / "model")) == SMOLLM2


def test_another_model_is_refused_at_the_start(work: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelArtifactError, match="not the language model of the first stage: it was trained with smol"):
        served(work / "model", tmp_path, f"{TASK}=http://127.0.0.1:9/v1#small")
    env = {"RISKCARDS_STAGE1_MODELS": "smollm2@bfloat16"}
    refused = run("score", __file__, "--model", work / "model", env=env)
    assert isinstance(refused.exception, ModelArtifactError)
    other = tmp_path / "other"
    shutil.copytree(work / "model", other)
    kept = json.loads((other / FILE).read_text())
    (other / FILE).write_text(json.dumps(kept | {"asking": kept["asking"] | {"windows": 40}}))
    sign(other, [FILE])
    with pytest.raises(ModelArtifactError, match="asked in another way"):
        RiskModel.open(other)


def at_a_server(folder: Path, server: ModelServer, place: Path) -> Path:
    """The same model as if it had been trained with the model of a server."""
    shutil.copytree(folder, place)
    named = f"{server.url}#small"
    kept = json.loads((place / FILE).read_text()) | {
        "model": named,
        "fingerprint": model_identity(ReaderName.of(named)),
    }
    (place / FILE).write_text(json.dumps(kept))
    sign(place, [FILE])
    return place


def test_a_server_that_misbehaves_blocks_no_card_and_is_asked_again(
    work: Path, record: PatientRecord, tmp_path: Path
) -> None:
    with model_server(SAID) as server:
        service = served(at_a_server(work / "model", server, tmp_path / "m"), tmp_path)
        for behaviour in ("500", "garbage", "rambles"):
            server.behaviour = behaviour
            service.queue._asked._known.clear()
            card = service.card(work, record)
            assert "small has not read 1 passage" in card["detail"]
            failed = done("read-ahead", "--once", env=service.env)
            assert "0 read, 3 attempts failed" in failed.stderr
        server.behaviour = "well"
        service.queue._asked._known.clear()
        service.card(work, record)
        done("read-ahead", "--once", env=service.env)
        card = service.card(work, record)
        assert "small estimates from the notes too." in card["detail"].replace("\\", "")
        assert score_at_once(work, record, service, tmp_path) == round(service.inputs(card["uuid"])[""] or math.nan, 4)


def score_at_once(work: Path, record: PatientRecord, service: Service, place: Path) -> float:
    chart = place / "chart.ndjson"
    chart.write_text("\n".join(json.dumps(resource) for resource in chart_of(work, record)))
    at = ("--as-of", record.prediction_time.isoformat(), "--encounter", f"{record.subject_id}-a")
    folder = Path(service.settings.models) / TASK
    scored = json.loads(done("score", chart, *at, "--model", folder, "--json").stdout)
    return float(scored["prediction"][0]["probabilityDecimal"])


def test_asking_goes_on_where_a_server_left_it(tmp_path: Path) -> None:
    """It fails in the middle, then answers something else than was asked for: that patient stays unknown, for now."""
    patients = [asked_windows([note(f"No chest pain. Bed {n}.")]) for n in range(4)]
    with model_server(SAID) as server:
        model = OpenedModels(ModelServers())(f"{server.url}#small")

        def asked() -> list[bool]:
            return [opinions.whole for opinions in ask_about_patients(model, patients, TASK, tmp_path / "kept.jsonl")]

        server.behaviour = "500"
        with pytest.raises(LanguageModelError):
            asked()
        server.behaviour = "rambles"
        assert asked() == [False] * 4
        server.behaviour = "well"
        assert ask_about_patients(model, patients[:2], TASK, tmp_path / "kept.jsonl")[1].whole
        server.behaviour = "rambles"
        assert asked() == [True, True, False, False]


def test_a_worker_killed_in_the_middle_loses_no_question(work: Path, record: PatientRecord, tmp_path: Path) -> None:
    """A real process, SIGKILL while the server holds an answer back; the next worker asks again, each window once."""
    with model_server(SAID) as server:
        service = served(at_a_server(work / "model", server, tmp_path / "m"), tmp_path)
        voice = service.pipeline._opining[TASK]
        (own,) = record.notes()
        notes = [replace(own, text=f"{own.text}{f' In bed {n}.' * 80}", source=f"d{n}") for n in range(3)]
        assert voice.read(notes).waiting == 3
        service.queue.write_down()
        server.hold_from = 2
        worker = [sys.executable, "-m", "cds_service.cli", "read-ahead", "--once", "--lease", "2"]
        first = subprocess.Popen(worker, env=os.environ | service.env, stderr=subprocess.PIPE)
        assert server.holding.wait(PATIENT)
        first.kill()
        first.communicate()
        server.hold_from = None
        second = done("read-ahead", "--once", env=service.env)
        assert "2 read, 0 attempts failed" in second.stderr
        assert server.answered == 3
        assert voice.read(notes).whole


def test_doctor_names_the_language_model_and_its_availability(work: Path, tmp_path: Path) -> None:
    look = dict(doctor._LOOKS)["first stages"]

    def seen(service: Service) -> str:
        return look(service.settings)

    assert f"{TASK}: smollm2, the model it was trained with" in seen(served(work / "model", tmp_path / "a"))
    with model_server(SAID) as server:
        service = served(at_a_server(work / "model", server, tmp_path / "m"), tmp_path / "b")
        assert "#small, the model it was trained with" in seen(service)
        server.behaviour = "rambles"
        with pytest.raises(LanguageModelError):
            seen(service)
        (tmp_path / "b" / "models" / TASK / FILE).unlink()
        with pytest.raises(ModelArtifactError):
            seen(service)


def test_a_model_that_reads_notes_and_is_a_first_stage_is_opened_once(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def one(name: ReaderName, servers: Any = None, **options: Any) -> Any:
        opened.append(name.model)
        return language_model(name, servers, **options)

    with model_server(SAID) as server:
        service = served(at_a_server(work / "model", server, tmp_path / "m"), tmp_path)
        monkeypatch.setattr(language_models, "language_model", one)
        desks = desks_of(service.settings.with_changes(note_reader=f"{server.url}#small"), 8)
    assert [desk.jobs.read for _, desk in desks] == ["reading", "opinion"]
    assert opened == ["small"]


def test_usage_errors_are_reported(work: Path, tmp_path: Path) -> None:
    arguments = ("train", "--task", TASK, "--cohort", work / "cohort", "--out", tmp_path / "m", "--stage1")
    assert run(*arguments, "rules").exit_code == 2
    assert "no note reader named" in run(*arguments, "no-such-model").output
    assert run("read-ahead", "--once", env={"RISKCARDS_MODELS": ""}).exit_code == 2
    assert run("serve", env={"RISKCARDS_STAGE1_MODELS": "rules"}).exit_code == 2
