"""`riskcards train-reader` killed for good in the middle: it goes on, and ends with the same weights; exit code 3 where
what it is given cannot be used."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cds_service.command_runs import Ended, run
from tests.patience import PATIENT, until
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_models import save_tiny_model

QUICK = (
    "--examples", "16", "--epochs", "2", "--validate-every", "1", "--batch", "4", "--rank", "2", "--patience", "99",
    "--max-tokens", "2048",
)  # fmt: skip
BAD_INPUT = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("torch", "transformers", "llguidance", "peft"):
        pytest.importorskip(package, reason=NEEDS)
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def command(model: Path, out: Path, *more: object) -> list[str]:
    given = ("train-reader", "--model", model, "--out", out, *QUICK, *more)
    return [sys.executable, "-m", "cds_service.cli", *map(str, given)]


def ended(*arguments: object, model: Path, out: Path) -> Ended:
    """In this process, which has torch by now."""
    return run(command(model, out, *arguments)[3:])


def weights(out: Path) -> str:
    return hashlib.sha256((out / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_sigkill_in_the_middle_and_resume_end_with_the_same_weights(model: Path, tmp_path: Path) -> None:
    whole = ended(model=model, out=tmp_path / "whole")
    assert whole.code == 0, whole.err
    process = subprocess.Popen(
        command(model, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    begun = tmp_path / "killed"
    assert until(lambda: list(begun.glob("state-00000[2-9]")) or process.poll() is not None, PATIENT)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    refused = ended(model=model, out=tmp_path / "killed")
    assert refused.code == BAD_INPUT
    assert "--resume" in refused.err
    resume = command(model, tmp_path / "killed", "--resume")
    resumed = subprocess.run(resume, capture_output=True, text=True, timeout=PATIENT, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("killed", "whole")]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-tokens", "16"), "longer than 16 tokens"),
        (("--targets", "no_such_layer"), "cannot be tuned"),
        (("--precision", "half"), "precision"),
    ],
)
def test_settings_that_leave_nothing_to_learn_are_bad_input(
    model: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = ended(*arguments, model=model, out=tmp_path / "out")
    assert result.code == BAD_INPUT, result.err
    assert words in result.err
    assert "Traceback" not in result.err


def test_a_folder_without_usable_records_is_bad_input(model: Path, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "Patient.ndjson").write_text("{this is not JSON\n")
    result = ended("--notes", tmp_path / "export", model=model, out=tmp_path / "out")
    assert result.code == BAD_INPUT, result.err
    assert "Patient.ndjson:1: not a FHIR resource: JSON" in result.err


def test_one_example_is_enough_to_run_and_none_is_refused(model: Path, tmp_path: Path) -> None:
    assert ended("--examples", "1", model=model, out=tmp_path / "out").code == 2


def test_an_adapter_for_another_base_or_of_another_form_is_bad_input(model: Path, tmp_path: Path) -> None:
    """Its manifest says what it was tuned on, and in which form; a reader that opens it checks both."""
    out = tmp_path / "reader"
    assert ended("--max-steps", "1", model=model, out=out).code == 0
    other = save_tiny_model(tmp_path / "other", seed=2)
    patient = tmp_path / "patient.json"
    patient.write_text(json.dumps({"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01"}))

    def scored(reader: str) -> Ended:
        return run(["score", str(patient), "--note-reader", reader])

    result = scored(f"{other}+{out}")
    assert result.code == BAD_INPUT
    assert "which has other weights than this model" in result.err
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    result = scored(f"{model}+{out}")
    assert result.code == BAD_INPUT
    assert "not a manifest of a note-reader-adapter of format 1" in result.err
