"""Requirements traceability: each test the table names exists, and each id appears once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (?P<id>[A-Z][\w–-]*) \| (?P<requirement>.+?) \| (?P<proof>.+?) \|$", re.MULTILINE)
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str]]:
    text = (REPOSITORY / "docs" / "requirements.md").read_text(encoding="utf-8")
    return [(match["id"], match["proof"]) for match in ROW.finditer(text)]


def test_ids_are_unique() -> None:
    ids = [requirement for requirement, _ in rows()]
    assert len(ids) > 80
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("requirement", "proof"), rows())
def test_each_requirement_names_an_existing_test_or_says_not_yet(requirement: str, proof: str) -> None:
    if proof.startswith("not yet ("):
        return
    named = PROOF.findall(proof)
    assert named, f"{requirement}: a proof is `tests/file.py::test_name` or `not yet (package)`"
    for file, test in named:
        path = REPOSITORY / file
        assert path.exists(), f"{requirement}: {file} does not exist"
        functions = {n.name for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef)}
        assert test in functions, f"{requirement}: {file} has no {test}"
