"""Rules of the house that no single room can prove: no pickle, no heavy import, nothing of anybody's machine."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("artifact_store", "cds_hooks", "fhir_mapping", "knowledge_index", "risk_model", "cds_service")
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HEAVY = ("torch", "transformers", "ray", "xgboost", "sklearn", "onnxruntime", "faiss", "fhirclient", "fhir.resources")
TALKATIVE = {"onnxruntime", "transformers", "peft", "ray"}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((REPOSITORY / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_no_module_we_ship_can_unpickle() -> None:
    guilty = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sources()
        for name in imported(ast.parse(path.read_text("utf-8")))
        if name.split(".")[0] in PICKLERS
    }
    assert not guilty


def test_numpy_never_loads_pickled_arrays() -> None:
    for path in sources():
        assert "allow_pickle=True" not in path.read_text("utf-8"), path


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print([m for m in {HEAVY!r} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert answer.stdout.strip() == "[]"


def test_libraries_that_would_report_to_their_makers_are_silenced_before_they_are_imported() -> None:
    """Once imported they can no longer be told."""
    trees = {path: path.read_text("utf-8") for path in sources()}
    doors = {path for path, text in trees.items() if TALKATIVE & {n.split(".")[0] for n in imported(ast.parse(text))}}
    assert len(doors) >= 5
    assert not [path for path in doors if "disable_telemetry()" not in trees[path]]


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = f"import sys, cds_service.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert answer.stdout.strip() == "[]"


def test_nothing_names_a_path_of_somebodys_machine_or_a_package_host() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    foreign = re.compile(r"/work/(main|shared)|/root/|/home/[a-z]+/|pypi\.org|files\.pythonhosted|registry\.npmjs")
    for name in listed.stdout.split():
        path = REPOSITORY / name
        if path.suffix in {".png", ".gz", ".faiss", ".npy", ".ubj", ".onnx"} or path == Path(__file__):
            continue
        found = foreign.search(path.read_text("utf-8", errors="replace"))
        assert found is None, f"{name} names {found.group()}"  # type: ignore[union-attr]


@pytest.mark.parametrize("package", ["cds_hooks", "fhir_mapping", "knowledge_index", "risk_model"])
def test_every_public_name_exists_and_is_named_once(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)


def test_every_command_of_the_readme_exists() -> None:
    from cds_service.cli import COMMANDS

    named = set(re.findall(r"^riskcards (\w+)", (REPOSITORY / "README.md").read_text("utf-8"), re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def test_every_make_target_tells_what_it_does() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = " ".join(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)).split()
    assert len(targets) > 15
    for target in targets:
        assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE), target


def test_the_committed_measurement_keeps_the_promise() -> None:
    """`python -m benchmarks.hook_latency` writes this file; it is the figure the README quotes."""
    result = json.loads((REPOSITORY / "benchmarks" / "results" / "hook_latency.json").read_text("utf-8"))
    assert result["body_megabytes"] >= 1.0
    assert result["p50_ms"] < 150
    assert result["rss_megabytes"] < 300
    assert result["torch_loaded"] is False
