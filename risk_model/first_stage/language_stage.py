"""A language model's own estimate as the first stage of a model that is served.

    stage = LanguageStage(TrainedOn("smollm2", fingerprint), head)
    stage.values(reading)      # of reading.opinions: {"stage1.logit": ..., "rationale_embedding.logit": ...}

The language model is not among the files of the folder: `stage1.json` names it, says by which fingerprint it is known
and how notes become questions. A stage never asks anybody; what the model says comes with the reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from knowledge_index import Encoder
from risk_model.core.errors import ModelArtifactError, TrainingError
from risk_model.first_stage.fusion import Learned, PatientReading
from risk_model.first_stage.note_stage import FORMAT, LANGUAGE_MODEL, ReasonHead
from risk_model.first_stage.patient_opinions import asking, put_together
from risk_model.first_stage.rationale import Frozen, LearnedReasons, PhraseVectors, ReasonBlock, Reasons
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.llm.registry import ReaderName, model_identity
from risk_model.prompts.opinion import Opinions


@dataclass(frozen=True, slots=True)
class LanguageStage:
    """`model` is the name at training time, `fingerprint` identifies its weights (`model_identity`)."""

    model: str
    fingerprint: str
    head: ReasonHead
    evidence: bool = False
    """Whether it is shown the patient's problems and literature about them."""

    wants_embedding = False
    reads = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.head.names

    def values(self, reading: PatientReading) -> Mapping[str, float]:
        """Unknown until the model has answered for all windows."""
        return self.head.values(put_together([reading.opinions]))

    def reasons(self, reading: PatientReading) -> tuple[str, ...]:
        """Sentences of the notes that it chose, those of the gravest windows first."""
        return put_together([reading.opinions]).phrases[0]

    def check(self, name: str) -> None:
        """Raises ModelArtifactError where the model of this name is not the one it was trained with, or is not there;
        MissingExtraError, ReaderNameError."""
        found = model_identity(ReaderName.of(name))
        if found != self.fingerprint:
            raise ModelArtifactError(
                f"not the language model of the first stage: it was trained with {self.model} ({self.fingerprint[:12]}"
                f"…), and this is {found[:12]}…; name the right one (RISKCARDS_STAGE1_MODELS), or train again",
                path=name,
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": LANGUAGE_MODEL,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "asking": asking(self.evidence),
            **self.head.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LanguageStage:
        """Raises KeyError, TypeError or ValueError where it is none of ours, or was asked in another way."""
        evidence = raw["asking"].get("evidence") is True
        if raw["asking"] != asking(evidence):
            raise ValueError("its language model was asked in another way than this version asks: train again")
        return cls(str(raw["model"]), str(raw["fingerprint"]), ReasonHead.from_json(raw), evidence)


@dataclass(frozen=True, slots=True)
class AskedModel:
    """AskedModel(name, fingerprint, reasons, encoder): what a language model said of each row of a cohort, as a stage
    to fit. It learned from none of these outcomes, so only the head over its reasons is cross-fitted."""

    language_model: str
    fingerprint: str
    reasons: Reasons
    encoder: Encoder
    evidence: bool = False

    @classmethod
    def of(
        cls, name: str, fingerprint: str, patients: Sequence[Opinions], encoder: Encoder, *, evidence: bool = False
    ) -> AskedModel:
        """Of the opinions on each row; `evidence` says whether literature was shown."""
        return cls(name, fingerprint, put_together(patients), encoder, evidence)

    def block(self, cohort: TrainingRows) -> ReasonBlock:
        """Raises TrainingError where it said nothing of anybody."""
        if not np.isfinite(self.reasons.logit).any():
            raise TrainingError(f"{self.language_model} said nothing of any patient: are there notes to read?")
        return ReasonBlock(Frozen(self.reasons), PhraseVectors(self.encoder.encode, self.encoder.dimensions))

    def served(self, learned: Learned) -> Mapping[str, Any]:
        assert isinstance(learned, LearnedReasons), "not a block of reasons"
        head = ReasonHead.of(learned.head, self.encoder)
        return LanguageStage(self.language_model, self.fingerprint, head, self.evidence).to_json()
