"""A first stage beside a model that is served: what it learned from all patients, as JSON, at work for one.

stage = NoteRegression(encoder)
fitted = training.fit(cohort, also=[stage.block(cohort)])          # cross-fitted there
NoteStage.from_json(stage.served(fitted.also[0])).values(reading)

Two kinds: a regression over what notes say (`NoteStage`), and a language model's own estimate (`language_stage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from knowledge_index import Encoder
from knowledge_index.encoders import encoder_named
from risk_model.core.errors import TrainingError
from risk_model.features.note_inputs import NOTE
from risk_model.first_stage.fusion import (
    ESTIMATED,
    FINDING,
    REASONED,
    Block,
    Head,
    Learned,
    PatientReading,
    note_values,
)
from risk_model.first_stage.note_reasoner import BesideRows, LearnedNotes, NoteReasoner, labels_of
from risk_model.first_stage.rationale import LearnedReasons, PhraseVectors, ReasonBlock, Reasons
from risk_model.first_stage.training_rows import TrainingRows

FILE = "stage1.json"
FORMAT = 1
REGRESSION, LANGUAGE_MODEL = "regression", "language-model"
_RATIONALE = ("rationale",)


@dataclass(frozen=True, slots=True)
class ReasonHead:
    """What both kinds end with: the estimate as it is, and a head over the embedded reasons where one was learned."""

    head: Head | None
    encoder: Encoder
    phrases: PhraseVectors

    @classmethod
    def of(cls, head: Head | None, encoder: Encoder) -> ReasonHead:
        return cls(head, encoder, PhraseVectors(encoder.encode, encoder.dimensions))

    @property
    def names(self) -> tuple[str, ...]:
        return (ESTIMATED,) if self.head is None else (ESTIMATED, REASONED)

    def values(self, said: Reasons) -> Mapping[str, float]:
        """The inputs of stage 2 for one patient."""
        values = {ESTIMATED: float(np.float32(said.logit[0]))}
        if self.head is not None:
            values[REASONED] = float(self.head(self.phrases(said.phrases))[0])
        return values

    def to_json(self) -> dict[str, Any]:
        return {
            "head": None if self.head is None else self.head.to_json(),
            "encoder": self.encoder.name,
            "encoder_fingerprint": self.encoder.fingerprint,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ReasonHead:
        """Raises KeyError, TypeError or ValueError where it is none of ours, or was fitted on another encoder."""
        head = None if raw["head"] is None else Head.from_json(raw["head"], _RATIONALE)
        encoder = encoder_named(str(raw["encoder"]))
        if raw["encoder_fingerprint"] != encoder.fingerprint:
            raise ValueError(
                f"its reasons were embedded by encoder {raw['encoder_fingerprint']}, and {encoder.name} is "
                f"{encoder.fingerprint} now: put that encoder back, or train again"
            )
        return cls.of(head, encoder)


@dataclass(frozen=True, slots=True)
class NoteStage:
    """NoteStage.from_json(raw).values(reading) -> {"stage1.logit": ..., "rationale_embedding.logit": ...}"""

    notes: LearnedNotes
    head: ReasonHead

    @property
    def names(self) -> tuple[str, ...]:
        return self.head.names

    @property
    def wants_embedding(self) -> bool:
        """Whether notes have to be embedded for it."""
        return self.notes.of_vectors is not None

    @property
    def reads(self) -> tuple[str, ...]:
        return self.notes.names

    def reasons(self, reading: PatientReading) -> tuple[str, ...]:
        """What weighs most in its estimate, in words."""
        return self._said(reading).phrases[0]

    def _said(self, reading: PatientReading) -> Reasons:
        """Its estimate for one patient, shape (1,), and why."""
        known = note_values(reading.findings, self.notes.names)
        x = np.array([[known[name] for name in self.notes.names]], dtype=np.float32)
        found = None if reading.findings is None else reading.findings.embedding
        if not self.wants_embedding:
            return self.notes(x, None)
        width = 0 if self.notes.of_vectors is None else len(self.notes.of_vectors)
        return self.notes(x, np.full((1, width), np.nan, np.float32) if found is None else found[None])

    def values(self, reading: PatientReading) -> Mapping[str, float]:
        return self.head.values(self._said(reading))

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "kind": REGRESSION, "notes": self.notes.to_json(), **self.head.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> NoteStage:
        """Raises KeyError, TypeError or ValueError where it is none of ours."""
        return cls(LearnedNotes.from_json(raw["notes"]), ReasonHead.from_json(raw))


class StageToFit(Protocol):
    """A first stage that `building.build_model` fits beside a cohort, and what is kept of it."""

    @property
    def language_model(self) -> str:
        """Name of the language model that makes the estimate; empty if none does."""
        ...

    @property
    def evidence(self) -> bool:
        """Whether that model is shown the patient's problems and literature about them."""
        ...

    def block(self, cohort: TrainingRows) -> Block:
        """For `training.fit(cohort, also=[block])`. Raises TrainingError where there is nothing to learn from."""
        ...

    def served(self, learned: Learned) -> Mapping[str, Any]:
        """What the block learned from all rows, for patients to come: stage1.json. Raises TrainingError."""
        ...


@dataclass(frozen=True, slots=True)
class NoteRegression:
    """NoteRegression(encoder): a logistic regression over what the notes of a cohort say; reasons are embedded."""

    encoder: Encoder

    language_model = ""
    evidence = False

    def block(self, cohort: TrainingRows) -> ReasonBlock:
        chosen = [name for name in cohort.names if name.startswith((FINDING, NOTE))]
        vectors = next((block.vectors for block in cohort.blocks if block.source == "notes"), None)
        if not chosen and vectors is None:
            raise TrainingError("no note of the cohort says anything a first stage could learn from")
        names, x = tuple(chosen), cohort.x[:, [cohort.names.index(name) for name in chosen]]
        reasoner = NoteReasoner(names, x, labels_of(names), vectors)
        return ReasonBlock(reasoner, PhraseVectors(self.encoder.encode, self.encoder.dimensions))

    def served(self, learned: Learned) -> Mapping[str, Any]:
        assert isinstance(learned, LearnedReasons), "not a block of reasons"
        if not isinstance(learned.fitted, BesideRows):
            raise TrainingError("the first stage had nothing to learn from: outcomes of one kind only")
        return NoteStage(learned.fitted.notes, ReasonHead.of(learned.head, self.encoder)).to_json()
