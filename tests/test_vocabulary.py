"""Names are the field's standard terms: phrases and invented words that were replaced do not come back.

The left column of PHRASES was once in the code, the docs or on the screen; the right one is what stands there now.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PHRASES = {
    "whom it was tuned among": "patients used for tuning are excluded from training and evaluation",
    "the house stands": "first end-to-end release",
    "told in a line": "fails early with an actionable message",
    "members named twice": "duplicate JSON keys",
    "speak_to_nobody": "disable_telemetry",
    "worked out of a prefetch": "short-lived assessment cache",
    "workers that serve are given up": "zero-downtime worker reload",
    "no word of a request": "never logs request content",
    "whose resource it is": "selects the patient's current resources",
    "who may come in when": "admission control",
    "strangeness": "outlier score",
    "for whom a model may speak": "model eligibility criteria",
    "when the cohort cannot teach": "if the cohort is unusable for training",
    "there whole or not at all": "atomic file writes",
    "duties and their proofs": "requirements traceability",
    "what is given (": "not modifiable",
    "open the whole reasoning": "explain this estimate",
    "estimates like this are usual": "at this level the model cannot separate the two outcomes",
    "ask the model": "recalculate",
    "of the family": "family history",
    "walk of this request": "request trace",
    "our fault or the machine's": "internal or system error",
    "wrong use": "usage error",
    "it reads the store and tells": "read-only report",
    "replaces all workers by such": "reloads settings, models and index without downtime",
}
# Parts of a name that are said of people, never of software, models or data.
OF_PEOPLE = {
    "who", "whom", "whose", "tell", "tells", "told", "telling", "speak", "speaks", "spoke", "spoken", "speaking",
    "teach", "teaches", "taught", "teaching", "judge", "judges", "judged", "judging", "strange", "stranger",
    "strangeness", "house", "room", "rooms", "nobody", "somebody", "everybody", "folk",
}  # fmt: skip
HERE = {"tests/test_vocabulary.py"}


def tracked(*endings: str) -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    for name in filter(None, listed.stdout.split("\0")):
        if name.endswith(endings) and name not in HERE and (REPOSITORY / name).is_file():
            yield REPOSITORY / name


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives: functions, classes, arguments, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def parts(name: str) -> set[str]:
    """
    >>> sorted(parts("HouseRules_told"))
    ['house', 'rules', 'told']
    """
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_replaced_phrase_is_nowhere(phrase: str) -> None:
    files = list(tracked(".py", ".md", ".html", ".css", ".js", ".yaml", ".cfg", "Makefile", "run"))
    if not files:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"\s+".join(map(re.escape, phrase.split())), re.IGNORECASE)
    found = [str(path.relative_to(REPOSITORY)) for path in files if pattern.search(path.read_text("utf-8"))]
    assert not found, f"write: {PHRASES[phrase]}"


def test_names_are_those_of_the_field() -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in tracked(".py")
        for name in (*names(ast.parse(path.read_text("utf-8"))), path.stem)
        if parts(name) & OF_PEOPLE
    }
    assert not found


@pytest.mark.parametrize("name", ["speak_to_nobody", "HouseRules", "test_it_is_told"])
def test_the_check_finds_what_it_looks_for(name: str) -> None:
    assert parts(name) & OF_PEOPLE
