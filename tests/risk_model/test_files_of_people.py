"""Every kind of file that people write refuses doubled keys and deep nesting with its place, and never ends the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_mapping import SiteMap
from knowledge_index.encoders.configuration import of_file
from risk_model.features.rubrics import Rubric
from risk_model.labels.aces_config import AcesTask
from risk_model.labels.task_definitions import parse_task
from risk_model.research.ehrshot_tasks import read_instructions

READERS: dict[str, Callable[[Path], Any]] = {
    "site map": SiteMap.open,
    "encoder": of_file,
    "rubric": Rubric.open,
    "task": lambda path: parse_task(path.read_text("utf-8"), path.name),
    "ACES task": AcesTask.open,
    "instructions": lambda path: read_instructions(path, ["guo_los"]),
}
TEXTS = {
    "a key twice": ("name: a\nother: b\nname: c\n", "name occurs twice"),
    "nested brackets": ("a: " + "[" * 50_000 + "]" * 50_000, "nested too deeply"),
    "nested blocks": ("- " * 5_000 + "a", "nested too deeply"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_file_of_which_something_would_be_lost_is_refused(kind: str, text: str, tmp_path: Path) -> None:
    content, words = TEXTS[text]
    path = tmp_path / "file.yaml"
    path.write_text(content)
    with pytest.raises(Exception, match=words) as found:
        READERS[kind](path)
    assert "file.yaml" in str(found.value)
    assert not isinstance(found.value, RecursionError | MemoryError)
