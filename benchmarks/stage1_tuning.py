"""A language model tuned on outcomes of stays that are not evaluated: for `stage1_ablation --tune`.

It sees all notes of a stay, newest first, as far as they fit one window, in all writing styles; the
patient's outcome is the level to answer. A run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

from artifact_store import MANIFEST
from benchmarks import cinc_fhir
from benchmarks.notes_fusion import AT, SEED, with_notes
from benchmarks.outcome import say
from fhir_mapping import PatientRecord
from knowledge_index import KnowledgeIndex
from risk_model import IN_HOSPITAL_MORTALITY, RuleNoteReader
from risk_model.llm import LocalLanguageModel, ReaderName, base_fingerprint, check_adapter, find_weights
from risk_model.llm_tuning import TuningSettings, WindowExamples, labelled_notes, select_windows, tune
from risk_model.llm_tuning.risk_examples import LabelledNotes

_rules: RuleNoteReader | None = None


def tuned(reader: str, data: Path, evaluated: int, count: int, out: Path, minutes: float) -> Mapping[str, Any]:
    """Manifest of the adapter in `out`, tuned on `count` windows of stays after the first `evaluated`; once so many
    `minutes` have gone it ends at the next validation."""
    name = ReaderName.of(reader)
    weights = base_fingerprint(*find_weights(name.model))
    if (out / MANIFEST).exists():
        return check_adapter(out, weights)
    examples = _lessons(data, evaluated, count)
    say(f"{len(examples.split.train)} windows to learn from, {len(examples.split.validation)} to validate on")
    base = {"name": Path(name.model).name, "fingerprint": weights, "precision": name.precision}
    settings = TuningSettings(epochs=1, learning_rate=5e-4, validate_every=20, patience=3, max_tokens=1024)
    begun = perf_counter()

    def progress(step: int, steps: int, words: str) -> None:
        say(f"{perf_counter() - begun:.0f} s: step {step} of {steps}: {words}")

    model = LocalLanguageModel(name.model, precision=name.precision)
    return tune(
        model, examples.split, out, settings, base=base, outcome_tuning=examples.outcome_tuning,
        resume=True, progress=progress,
        enough=lambda: perf_counter() - begun > 60 * minutes,
    )  # fmt: skip


def _lessons(data: Path, evaluated: int, count: int) -> WindowExamples:
    outcomes = cinc_fhir.read_outcomes(data / "Outcomes-a.csv")
    stays = list(islice(cinc_fhir.read_stays(data / "set-a.csv.gz"), evaluated, None))
    asked = [(stay, outcomes[stay.record_id]["In-hospital_death"]) for stay in stays]
    with get_context("spawn").Pool(2, _open) as pool:
        rows = list(pool.imap(_described, asked, chunksize=50))
    return select_windows(rows, IN_HOSPITAL_MORTALITY, count=count, most=1)


def _open() -> None:
    global _rules
    _rules = RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def _described(asked: tuple[cinc_fhir.IcuStay, int]) -> LabelledNotes:
    stay, outcome = asked
    assert _rules is not None
    notes = PatientRecord.from_resources(with_notes(stay, SEED), prediction_time=AT).notes()
    return labelled_notes((stay.record_id,), notes, int(outcome), _rules)
