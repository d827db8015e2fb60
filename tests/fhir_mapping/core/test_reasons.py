"""The table of reason codes: the documentation shows it, and the code uses no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from fhir_mapping.core.reasons import GROUPS, NOTE_REASONS, REASONS, status_reason, table

REPOSITORY = Path(__file__).resolve().parents[3]


def literals() -> Iterator[tuple[str, str]]:
    """Yields file and text of every reason in the package: the second argument of a Refusal."""
    for path in sorted((REPOSITORY / "fhir_mapping").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"Refusal": 1, "refusals": 2}.get(node.func.id)
            for argument in node.args[place : place + 1] if place is not None else ():
                compared = {id(p) for c in ast.walk(argument) if isinstance(c, ast.Compare) for p in ast.walk(c)}
                for part in ast.walk(argument):
                    if id(part) in compared:
                        continue
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
                        yield path.name, part.value


def test_every_reason_in_the_code_is_in_the_table() -> None:
    found = list(literals())
    assert len(found) > 20
    unknown = {
        (file, text)
        for file, text in found
        if text not in REASONS and not any(reason.startswith(text) for reason in REASONS)
    }
    assert not unknown


def test_every_reason_a_note_gives_is_in_the_table() -> None:
    raised = set()
    for path in sorted((REPOSITORY / "fhir_mapping").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NOTE_ERRORS:
                words = (p.value for a in node.args for p in ast.walk(a) if isinstance(p, ast.Constant))
                raised |= {word for word in words if isinstance(word, str) and "-" in word}
    assert len(raised) > 10
    assert raised <= set(NOTE_REASONS)


_NOTE_ERRORS = {"UnreadableError", "NotFetchedError"}


def test_the_page_shows_the_table() -> None:
    page = (REPOSITORY / "docs" / "reasons.md").read_text("utf-8")
    assert page.endswith(table())


def test_reason_codes_are_unique() -> None:
    assert sum(len(reasons) for reasons in GROUPS.values()) == len(REASONS)
    assert all(reason.replace("-", "").isalpha() and reason.islower() for reason in REASONS)


def test_an_unknown_status_is_not_in_the_reason() -> None:
    assert {status_reason(s) for s in ("John Smith", 5, ["final"], {"a": 1}, "")} == {"status-not-understood"}
