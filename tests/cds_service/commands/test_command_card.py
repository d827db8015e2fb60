"""`riskcards card` as a user runs it: three forms of one text, and a damaged model has no card."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cds_service import cli
from risk_model import TASKS
from risk_model.models.estimator import shipped_folder

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Card = Callable[..., Answer]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Card:
    """Runs `riskcards card ...` through the console entry point, where exit codes are decided."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["riskcards", "card", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return Answer(int(left.value.code or 0), said.out, said.err)

    return run


class Page(HTMLParser):
    """What of a page could reach outside it or run, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe", "object", "embed"}:
            self.outside.append(tag)
        self.outside += [name for name, _ in attrs if name in {"src", "href"} or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_three_forms_say_the_same_31_things(card: Card, task: str) -> None:
    answers = {form: card(task, "--format", form) for form in ("json", "html", "chai-xml")}
    assert {answer.code for answer in answers.values()} == {0}
    said = json.loads(answers["json"].out)
    texts = [text for group in said["attributes"].values() for text in group.values()]
    assert said["task"] == task
    assert len(texts) == 31

    page = Page()
    page.feed(answers["html"].out)
    assert page.outside == []
    assert all(text in page.text for text in texts)
    assert "Where it must not be used" in page.text

    root = ElementTree.fromstring(answers["chai-xml"].out)
    written = "\n".join(root.itertext())
    assert [text for text in texts if text not in written] == []


def test_html_is_the_default_and_a_folder_is_a_model_too(card: Card) -> None:
    by_name = card("readmission_30d")
    assert by_name.out.lower().startswith("<!doctype html>")
    assert card(shipped_folder("readmission_30d")).out == by_name.out


def test_a_changed_card_is_refused(card: Card, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shipped_folder("readmission_30d"), folder)
    text = (folder / "card.json").read_text("utf-8")
    (folder / "card.json").write_text(text.replace("hospice", "HOSPICE", 1), "utf-8")
    answer = card(folder)
    assert (answer.code, answer.out) == (3, "")
    assert "altered" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["nowhere"], 3), ([], 2), (["readmission_30d", "--format", "pdf"], 2), ([str(REPOSITORY / "docs")], 3)],
)
def test_wrong_use_is_2_and_no_model_is_3(card: Card, arguments: list[str], code: int) -> None:
    answer = card(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.strip()
    assert "Traceback" not in answer.err
