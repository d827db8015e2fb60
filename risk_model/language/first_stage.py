"""A first stage beside a model that is served: what it learned from all patients, as JSON, at work for one.

block = note_stage(cohort, encoder)          # for training.fit(cohort, also=[block]), cross-fitted there
write(served(fitted.stage1, encoder), folder)
NoteStage.open(folder, manifest).values(reading)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_index import Encoder
from knowledge_index.encoder import encoder_named
from risk_model.artifacts import read_signed_json
from risk_model.errors import ModelArtifactError, TrainingError
from risk_model.fusion import ESTIMATED, FINDING, REASONED, Head, Learned, Reading, note_values
from risk_model.language.note_reasoner import BesideRows, LearnedNotes, NoteReasoner, labels_of
from risk_model.language.rationale import LearnedReasons, PhraseVectors, ReasonBlock, Reasons
from risk_model.note_inputs import NOTE
from risk_model.training import Cohort

FILE = "stage1.json"
FORMAT = 1
_RATIONALE = ("rationale",)


@dataclass(frozen=True, slots=True)
class NoteStage:
    """NoteStage.open(folder, manifest).values(reading) -> {"stage1.logit": ..., "rationale_embedding.logit": ...}"""

    notes: LearnedNotes
    head: Head | None
    encoder: Encoder
    phrases: PhraseVectors

    @property
    def names(self) -> tuple[str, ...]:
        return (ESTIMATED,) if self.head is None else (ESTIMATED, REASONED)

    @property
    def wants_embedding(self) -> bool:
        """Whether notes have to be embedded for it."""
        return self.notes.of_vectors is not None

    @property
    def reads(self) -> tuple[str, ...]:
        return self.notes.names

    def reasons(self, reading: Reading) -> tuple[str, ...]:
        """What weighs most in its estimate, in words."""
        return self._said(reading).phrases[0]

    def _said(self, reading: Reading) -> Reasons:
        """Its estimate for one patient, shape (1,), and why."""
        known = note_values(reading.findings, self.notes.names)
        x = np.array([[known[name] for name in self.notes.names]], dtype=np.float32)
        found = None if reading.findings is None else reading.findings.embedding
        if not self.wants_embedding:
            return self.notes(x, None)
        width = 0 if self.notes.of_vectors is None else len(self.notes.of_vectors)
        return self.notes(x, np.full((1, width), np.nan, np.float32) if found is None else found[None])

    def values(self, reading: Reading) -> Mapping[str, float]:
        said = self._said(reading)
        values = {ESTIMATED: float(np.float32(said.logit[0]))}
        if self.head is not None:
            values[REASONED] = float(self.head(self.phrases(said.phrases))[0])
        return values

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "notes": self.notes.to_json(),
            "head": None if self.head is None else self.head.to_json(),
            "encoder": self.encoder.name,
            "encoder_fingerprint": self.encoder.fingerprint,
        }

    @classmethod
    def open(cls, folder: Path, manifest: Mapping[str, Any]) -> NoteStage | None:
        """The first stage of a model folder whose hashes were checked; None where it has none.

        Raises ModelArtifactError where it is none of ours, or its reasons were embedded by another encoder.
        """
        raw = read_signed_json(folder, manifest, FILE)
        if raw is None:
            return None
        path = str(folder / FILE)
        try:
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']}, this version reads {FORMAT}")
            notes = LearnedNotes.from_json(raw["notes"])
            head = None if raw["head"] is None else Head.from_json(raw["head"], _RATIONALE)
            encoder = encoder_named(str(raw["encoder"]))
            made_by = raw["encoder_fingerprint"]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelArtifactError(f"not a first stage of this version: {error}", path=path) from None
        if made_by != encoder.fingerprint:
            raise ModelArtifactError(
                f"its reasons were embedded by encoder {made_by}, and {encoder.name} is {encoder.fingerprint} now: "
                "put that encoder back, or train again",
                path=path,
            )
        return cls(notes, head, encoder, PhraseVectors(encoder.encode, encoder.dimensions))


def note_stage(cohort: Cohort, encoder: Encoder) -> ReasonBlock:
    """A first stage over what the notes of a cohort say. Raises TrainingError where they say nothing."""
    chosen = [name for name in cohort.names if name.startswith((FINDING, NOTE))]
    vectors = next((block.vectors for block in cohort.blocks if block.source == "notes"), None)
    if not chosen and vectors is None:
        raise TrainingError("no note of the cohort says anything a first stage could learn from")
    names, x = tuple(chosen), cohort.x[:, [cohort.names.index(name) for name in chosen]]
    reasoner = NoteReasoner(names, x, labels_of(names), vectors)
    return ReasonBlock(reasoner, PhraseVectors(encoder.encode, encoder.dimensions))


def served(learned: Learned, encoder: Encoder) -> NoteStage:
    """What `note_stage` learned from all rows, for patients to come. Raises TrainingError where it learned nothing."""
    assert isinstance(learned, LearnedReasons), "not a first stage of `note_stage`"
    if not isinstance(learned.fitted, BesideRows):
        raise TrainingError("the first stage had nothing to learn from: outcomes of one kind only")
    return NoteStage(learned.fitted.notes, learned.head, encoder, PhraseVectors(encoder.encode, encoder.dimensions))
