"""Rules for the code of all packages: no pickle, no heavy import, no path of a developer's machine."""

from __future__ import annotations

import ast
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
HAVE_TELEMETRY = {"onnxruntime", "transformers", "peft", "ray"}


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
    found = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sources()
        for name in imported(ast.parse(path.read_text("utf-8")))
        if name.split(".")[0] in PICKLERS
    }
    assert not found


def test_numpy_never_loads_pickled_arrays() -> None:
    texts = {path: path.read_text("utf-8") for path in sources()}
    assert len(texts) > 400
    assert not [path for path, text in texts.items() if "allow_pickle=True" in text]


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print([m for m in {HEAVY!r} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert answer.stdout.strip() == "[]"


def test_telemetry_is_disabled_before_a_library_that_has_it_is_imported() -> None:
    """Once imported, these libraries no longer read the variables that disable it."""
    trees = {path: path.read_text("utf-8") for path in sources()}
    importers = {
        path for path, text in trees.items() if HAVE_TELEMETRY & {n.split(".")[0] for n in imported(ast.parse(text))}
    }
    assert len(importers) >= 5
    assert not [path for path in importers if "disable_telemetry()" not in trees[path]]


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = f"import sys, cds_service.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert answer.stdout.strip() == "[]"


def test_no_tracked_file_names_a_developers_path_or_a_package_host() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    foreign = re.compile(r"/work/(main|shared)|/root/|/home/[a-z]+/|pypi\.org|files\.pythonhosted|registry\.npmjs")
    assert listed.stdout
    for name in listed.stdout.split():
        path = REPOSITORY / name
        if path.suffix in {".png", ".gz", ".faiss", ".npy", ".ubj", ".onnx"} or path == Path(__file__):
            continue
        found = foreign.search(path.read_text("utf-8", errors="replace"))
        assert found is None, f"{name} names {found.group()}"  # type: ignore[union-attr]


def test_every_command_of_the_readme_exists() -> None:
    from cds_service.cli import COMMANDS

    named = set(re.findall(r"^riskcards ([\w-]+)", (REPOSITORY / "README.md").read_text("utf-8"), re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def test_every_make_target_has_a_description() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = " ".join(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)).split()
    assert len(targets) > 15
    for target in targets:
        assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE), target


def test_the_committed_latency_is_within_its_limits() -> None:
    """`python -m benchmarks.hook_latency` writes this file; it is the figure the README quotes."""
    result = json.loads((REPOSITORY / "benchmarks" / "results" / "hook_latency.json").read_text("utf-8"))
    assert result["body_megabytes"] >= 1.0
    assert result["p50_ms"] < 150
    assert result["rss_megabytes"] < 310
    assert result["torch_loaded"] is False
