"""The tutorials: commands that show an answer give it, Python snippets run, and every page has a place and true links.

A block ```console has `$ riskcards ...` lines, each followed by lines that its output contains.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_service.application.factory import create_app
from cds_service.cli import cli
from tests.patience import patient_settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))


def blocks(text: str, language: str) -> list[str]:
    """
    >>> blocks("```python\\nx = 1\\n```\\n```\\ny\\n```\\n```python\\nz = 2\\n```\\n", "python")
    ['x = 1\\n', 'z = 2\\n']
    """
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


WITH_PYTHON = [page for page in TUTORIALS if blocks(page.read_text(), "python")]


def commands(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """
    >>> list(commands("```console\\n$ riskcards map x\\nfirst\\n$ riskcards score y\\n```\\n"))
    [(['map', 'x'], ['first']), (['score', 'y'], [])]
    """
    for block in blocks(text, "console"):
        for part in block.split("$ riskcards ")[1:]:
            line, *expected = part.splitlines()
            yield shlex.split(line), expected


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_commands_of_a_tutorial_answer_as_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for words, expected in commands(page.read_text()):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code in ({0, 4} if words[0] == "score" else {0}), (words, result.output, result.exception)
        missing = [line for line in expected if line not in result.output]
        assert not missing, (words, missing, result.output[:2000])


def test_the_tutorials_show_commands_and_their_output() -> None:
    shown = [command for page in TUTORIALS for command in commands(page.read_text())]
    assert sum(bool(expected) for _, expected in shown) >= 8


@pytest.mark.parametrize(
    "page", [page for page in TUTORIALS if blocks(page.read_text(), "python")], ids=lambda p: p.stem
)
def test_python_of_a_tutorial_runs(page: Path) -> None:
    names: dict[str, object] = {"__name__": "tutorial"}
    found = blocks(page.read_text(), "python")
    assert any("assert " in block for block in found), "a tutorial's Python states what it gives"
    for block in found:
        exec(compile(block, str(page), "exec"), names)


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    listed = {line.strip() for block in blocks(index, r"\{toctree\}") for line in block.splitlines()}
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not page.startswith("decisions/0")} - {"index", "decisions/README"} <= listed


@pytest.mark.parametrize("page", [*DOCS.rglob("*.md"), ROOT / "README.md"], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        assert (page.parent / target).exists(), f"{os.path.relpath(page, ROOT)}: {target}"


def test_the_http_reference_names_every_route(tmp_path: Path) -> None:
    app = create_app(patient_settings({"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/riskcards.db"}))
    text = (DOCS / "reference" / "http.md").read_text()
    rules = {re.sub(r"<(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    assert len(rules) > 12
    assert {rule for rule in rules if not rule.startswith(("/app/", "/ward/")) and f"{rule}`" not in text} == set()
    app.extensions["riskcards"].store.close()
