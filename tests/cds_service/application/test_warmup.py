"""A worker loads what its first request needs before it reports ready."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from cds_service.application.warmup import _BUNDLE, warm
from fhir_mapping import Note, PatientRecord
from knowledge_index import Evidence
from risk_model import Pipeline, RuleNoteReader
from risk_model.core.errors import RiskModelError
from risk_model.core.values import NoteFindings

OPENED = """
import sys
from cds_service.application.warmup import warm
from risk_model import Pipeline
pipeline = Pipeline.shipped()
before = set(sys.modules)
warm(pipeline)
assert pipeline.index._encoder is not None
opened = set(sys.modules)
import {module}
warm(pipeline)
print(sorted(set(sys.modules) - opened))
"""


def test_warming_imports_every_module() -> None:
    """A second patient imports no module that warming did not, such as the encoder's runtime."""
    code = OPENED.format(module="onnxruntime")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_failing_model_does_not_stop_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RiskModelError("broken")

    monkeypatch.setattr(Pipeline, "assess", broken)
    warm(Pipeline.shipped())
    assert "RiskModelError" in caplog.text


def test_no_language_model_is_asked_about_the_made_up_patient() -> None:
    """A language model reads the notes of patients, but not of the made-up one."""
    asked: list[Sequence[Note]] = []

    class Counts:
        name = "language:counts"

        def __init__(self, rules: RuleNoteReader) -> None:
            self._rules = rules

        def read(
            self, notes: Sequence[Note], evidence: Sequence[Evidence] = (), *, deadline: float | None = None
        ) -> NoteFindings:
            asked.append(notes)
            return self._rules.read(notes, evidence)

    pipeline = Pipeline.shipped(wrap=Counts)
    warm(pipeline)
    assert not asked
    pipeline.assess(PatientRecord.from_json(_BUNDLE), "readmission_30d")
    assert len(asked) == 1
