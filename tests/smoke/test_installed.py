"""What a wheel installed by plain pip must do: `.ci/fresh_machine.py wheel` runs this without the checkout on the path.

In the checkout the same tests run over the editable install.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CHART = EXAMPLES / "diabetic-heart-failure-discharge" / "bundle.json"
BAD_INPUT = 3


def riskcards(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command that pip put beside this interpreter."""
    command = [str(Path(sys.executable).with_name("riskcards")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_names_the_version_of_its_metadata() -> None:
    assert version("riskcards") in riskcards("--version").stdout


def test_a_chart_gives_a_risk_assessment() -> None:
    done = riskcards("score", CHART, "--task", "readmission_30d", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["resourceType"] == "RiskAssessment"
    assert 0 < answer["prediction"][0]["probabilityDecimal"] < 1


def test_the_starter_index_and_its_encoder_answer_a_search() -> None:
    done = riskcards("index", "search", "starter", "heart failure readmission", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) >= 5


def test_a_chart_gives_features_notes_and_codes() -> None:
    for wanted in ("features", "notes", "codes", "markdown"):
        done = riskcards("map", CHART, "--as-of", "2024-05-01", "--to", wanted)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip(), wanted


def test_doctor_finds_every_shipped_artifact_whole() -> None:
    done = riskcards("doctor")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_figure_without_matplotlib_names_the_extra(tmp_path: Path) -> None:
    """`evaluate` draws at its end: without the extra it must fail at its start."""
    if importlib.util.find_spec("matplotlib") is not None:
        pytest.skip("matplotlib is installed here; the wheel's environment has none")
    folders = ("--model", tmp_path, "--cohort", tmp_path, "--out", tmp_path / "out")
    done = riskcards("evaluate", *folders)
    assert done.returncode == BAD_INPUT
    assert 'pip install "riskcards[report]"' in done.stderr
