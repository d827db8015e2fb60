"""The table of duties is complete and true: each proof it names is a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (?P<id>[A-Z][\w–-]*) \| (?P<duty>.+?) \| (?P<proof>.+?) \|$", re.MULTILINE)
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str]]:
    text = (REPOSITORY / "docs" / "requirements.md").read_text(encoding="utf-8")
    return [(match["id"], match["proof"]) for match in ROW.finditer(text)]


def test_every_standard_has_rows_and_no_id_appears_twice() -> None:
    ids = [duty for duty, _ in rows()]
    assert len(ids) > 80
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("duty", "proof"), rows())
def test_a_duty_names_a_test_that_exists_or_says_not_yet(duty: str, proof: str) -> None:
    if proof.startswith("not yet ("):
        return
    named = PROOF.findall(proof)
    assert named, f"{duty}: a proof is `tests/file.py::test_name` or `not yet (room)`"
    for file, test in named:
        path = REPOSITORY / file
        assert path.exists(), f"{duty}: {file} does not exist"
        functions = {n.name for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef)}
        assert test in functions, f"{duty}: {file} has no {test}"
