"""The served model: a record in, a RiskEstimate out, or an abstention with its reason.

The model's manifest states its population and the inputs it needs; for other patients it abstains. The shipped models
were trained on data without notes, so findings from notes are shown beside their estimates and do not change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from fhir_mapping import PatientRecord
from knowledge_index import Encoder, Evidence
from risk_model.applicability.eligibility import outside
from risk_model.applicability.out_of_distribution import Distribution, OutlierScore
from risk_model.applicability.outlier_words import abstention_of, cautions_of
from risk_model.applicability.unknown_inputs import gaps, unlearned
from risk_model.core.artifacts import open_manifest, predictor_file, read_signed_json
from risk_model.core.errors import ModelArtifactError
from risk_model.core.tasks import Task, question_of, task_of
from risk_model.core.values import Abstention, Counterfactual, Driver, NoteFindings, RiskEstimate, StageVoice
from risk_model.features import inputs
from risk_model.features.encoding import Encoding
from risk_model.features.note_inputs import NOTE
from risk_model.features.note_measurements import NOTED
from risk_model.first_stage import fusion
from risk_model.first_stage.language_stage import LanguageStage
from risk_model.first_stage.patient_opinions import asked_windows
from risk_model.models.conformal import Conformal, categories_of
from risk_model.models.explanation import Explained, Explanation, counterfactuals, drivers
from risk_model.models.model_files import check_reads_alike, opened_encoding, opened_sources
from risk_model.models.note_bounds import NOTE_BOUND, Bounded, within
from risk_model.models.reliability_interval import reliability_interval
from risk_model.notes.rule_reader import LANGUAGE
from risk_model.predictors.file_formats import Contributions, Predictor, open_predictor
from risk_model.prompts.opinion import Opinions
from risk_model.scores.by_task import comparators

_ROUNDING = 1e-9  # log-odds; a smaller sum of leaves is zero
_AT_ITS_BOUND = (
    "What a language model read in the notes would have moved this estimate further than it is allowed to; it was held "
    "at that bound."
)


@dataclass(frozen=True, slots=True)
class RiskModel:
    """A fitted model and its manifest.

    RiskModel.open(path).estimate(record, findings)
    """

    manifest: Mapping[str, Any]
    names: tuple[str, ...]
    folder: Path
    predictor: Predictor
    encoding: Encoding
    _contributions: Contributions
    conformal: Conformal | None = None
    distribution: Distribution | None = None
    sources: fusion.RowSources = fusion.NO_SOURCES

    @classmethod
    def open(cls, folder: str | Path, encoder: Encoder | None = None) -> RiskModel:
        """Returns the model of a folder; the hash of every file is checked first. `encoder` replaces the one the
        manifest names.

        Raises ModelArtifactError if it is missing, altered, of another format, or its inputs differ from the
        manifest's.
        """
        folder = Path(folder)
        manifest = open_manifest(folder)
        predictor = open_predictor(folder / predictor_file(manifest))
        names = tuple(item["name"] for item in manifest["inputs"])
        encoding = opened_encoding(manifest, names, folder)
        if predictor.column_names != encoding.column_names:
            raise ModelArtifactError("its inputs are not those of the manifest", path=str(folder / predictor.file))
        described = read_signed_json(folder, manifest, "distribution.json")
        try:
            conformal = Conformal.from_json(manifest["conformal"]) if "conformal" in manifest else None
            distribution = None if described is None else Distribution.from_json(described)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelArtifactError(f"not written by this version: {error}", path=str(folder)) from None
        sources = opened_sources(folder, manifest, names, encoder)
        check_reads_alike(predictor, encoding, manifest, folder)
        contributions = predictor.contributions(encoding.players)
        return cls(manifest, names, folder, predictor, encoding, contributions, conformal, distribution, sources)

    @property
    def task(self) -> str:
        return str(self.manifest["task"])

    @property
    def question(self) -> Task:
        """The outcome that it predicts, in words, and the label definition."""
        return question_of(self.manifest)

    def estimate(
        self,
        record: PatientRecord,
        findings: NoteFindings | None = None,
        evidence: Sequence[Evidence] = (),
        opinions: Opinions | None = None,
    ) -> RiskEstimate:
        """Returns a probability with interval and drivers, or an abstention; comparators and data gaps in both cases.

        `opinions` come from the language model whose own estimate is an input; without them that input is unknown.
        """
        vector = record.features()
        if opinions is None:
            opinions = self.unasked(record)
        reading = fusion.PatientReading(record, vector, findings, tuple(evidence), opinions)
        row, abstention = self.prepared(reading)
        explained = self._explained(reading, row)
        answer = None if abstention is not None else self._apply(explained)
        held = self.reads_notes and self._heeds_a_language_model(findings)
        bounded = self.bounded(answer.probability, row) if answer is not None and held else None
        probability = None if answer is None else answer.probability if bounded is None else bounded.probability
        stage, asks = self.sources.first_stage, self.asks
        cautions = () if answer is None else cautions_of(self._outlier_score(self._seen(row, findings)))
        return RiskEstimate(
            task=self.task,
            subject_id=record.subject_id,
            prediction_time=record.prediction_time,
            probability=probability,
            interval=None if probability is None else self.interval(probability),
            baseline=float(self.manifest["baseline"]),
            drivers=() if answer is None else answer.drivers,
            reference=None if answer is None else answer.explanation.reference,
            contributions=() if answer is None else tuple(answer.explanation.contributions.items()),
            comparators=comparators(record, self.task),
            gaps=gaps(self.manifest, row, vector),
            abstention=abstention,
            model_id=str(self.manifest["model_id"]),
            model_version=str(self.manifest["version"]),
            stay=None if record.current_stay is None else record.current_stay.source,
            prediction_set=None if probability is None else self.outcomes(probability, row),
            counterfactuals=() if answer is None or held else answer.counterfactuals,
            cautions=cautions + ((_AT_ITS_BOUND,) if bounded is not None and bounded.cut else ()),
            anchor=None if bounded is None else bounded.anchor,
            reads_notes=self.reads_notes,
            question=self.question,
            inputs=tuple(row.tolist()),
            reasons=() if answer is None or stage is None else stage.reasons(reading),
            voice=None if asks is None else StageVoice(asks.model, opinions.waiting, opinions.failed),
        )

    def unasked(self, record: PatientRecord) -> Opinions:
        """Returns the opinions on a patient for whom the language model of the first stage was not run."""
        return Opinions(waiting=len(asked_windows(record.notes()))) if self.asks is not None else Opinions()

    def _heeds_a_language_model(self, findings: NoteFindings | None) -> bool:
        """Whether a language model can influence this estimate: always if the first stage is one, so that the level on
        the card is decided in the same way before and after it has answered."""
        return _by_language_model(findings) or self.asks is not None

    def _explained(self, reading: fusion.PatientReading, row: inputs.Row) -> Explained:
        """Returns the inputs to explain; values and sources come from the record with the values stated in notes, if
        the model uses them."""
        record = reading.noted if any(name.startswith(NOTED) for name in self.names) else reading.record
        vector = reading.vector if record is reading.record else record.features()
        return Explained(record, vector, self.names, row, self.reference(row))

    @property
    def reads_notes(self) -> bool:
        """Whether note inputs can change this model's estimate."""
        return any(fusion.moved_by_notes(name) for name in self.names)

    @property
    def asks(self) -> LanguageStage | None:
        """The first stage, if it is a language model's own estimate."""
        stage = self.sources.first_stage
        return stage if isinstance(stage, LanguageStage) else None

    @property
    def is_bounded(self) -> bool:
        """Whether it was trained on findings or estimates of a language model."""
        reader = str(self.manifest.get("note_reader", ""))
        return self.reads_notes and (reader.startswith(LANGUAGE) or self.asks is not None)

    @property
    def heads(self) -> tuple[fusion.Head, ...]:
        return self.sources.heads

    @property
    def embeds_notes(self) -> bool:
        """Whether it needs embeddings of notes."""
        stage = self.sources.first_stage
        return any(head.source == "notes" for head in self.heads) or (stage is not None and stage.wants_embedding)

    @property
    def reads_values(self) -> bool:
        """Whether it, or its first stage, needs values stated in notes."""
        stage = self.sources.first_stage
        return any(name.startswith((NOTE, NOTED)) for name in (*self.names, *(() if stage is None else stage.reads)))

    def bounded(self, probability: float, row: inputs.Row) -> Bounded:
        """Returns the probability limited to a range around the probability of the same row without notes.

        The limit is `note_bound` of the manifest, in log-odds; NOTE_BOUND if it has none.
        """
        anchor = float(self.probabilities(self._without_notes(row)[None, :])[0])
        return within(probability, anchor, float(self.manifest.get("note_bound", NOTE_BOUND)))

    @property
    def fingerprint(self) -> str:
        """The sha256 of the manifest, and so of every file of the model."""
        return hashlib.sha256(orjson.dumps(self.manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def replay(self, kept: Sequence[float], language: bool = False) -> float:
        """Returns the probability for an estimate's `inputs`, bit for bit as before; set `language` if the estimate had
        an anchor.

        Raises ModelArtifactError.
        """
        if len(kept) != len(self.names):
            raise ModelArtifactError(f"{len(kept)} inputs, the model has {len(self.names)}", path=str(self.folder))
        row = np.asarray(kept, dtype=np.float32)
        probability = float(self.probabilities(row[None, :])[0])
        return self.bounded(probability, row).probability if language else probability

    def prepared(self, reading: fusion.PatientReading) -> tuple[inputs.Row, Abstention | None]:
        """Returns the model's row for a patient, shape (inputs,), and the abstention, or None."""
        row = fusion.row(reading, self.names, self.sources)
        outsider = outside(self.manifest["population"], reading.record, reading.vector)
        quiet = self._heeds_a_language_model(reading.findings)
        refused = outsider or unlearned(self.manifest, row, without_notes=quiet)
        return row, refused or abstention_of(self._outlier_score(self._seen(row, reading.findings)))

    def _seen(self, row: inputs.Row, findings: NoteFindings | None) -> inputs.Row:
        """Returns the row that the outlier score is computed from: without what a language model read, which must not
        make a patient an outlier."""
        return self._without_notes(row) if self._heeds_a_language_model(findings) else row

    def _without_notes(self, row: inputs.Row) -> inputs.Row:
        return fusion.without_notes(self.names, row)

    def _outlier_score(self, row: inputs.Row) -> OutlierScore | None:
        return None if self.distribution is None else self.distribution.outlier_score(row)

    @property
    def reads_evidence(self) -> bool:
        """Whether evidence must be retrieved before the estimate."""
        return any(head.source == "evidence" for head in self.heads)

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns calibrated probabilities of rows (n, inputs), NaN for unknown, without checks for abstention."""
        return self._probabilities(self.encoding.columns_of(rows))

    def _probabilities(self, columns: NDArray[np.float32]) -> NDArray[np.float64]:
        calibration = self.manifest["calibration"]
        margin = self.predictor.margins(columns)
        return np.asarray(1 / (1 + np.exp(-(calibration["intercept"] + calibration["slope"] * margin))))

    def reference(self, row: inputs.Row) -> inputs.Row:
        """Returns the row of the patient's reference, shape (inputs,); see `risk_model.features.encoding`."""
        medians = {item["name"]: item.get("median", item.get("typical")) for item in self.manifest["inputs"]}
        found: inputs.Row = self.encoding.reference(row[None, :], medians)[0]
        return found

    def explain(self, row: inputs.Row) -> Explanation:
        """Returns the probability of one row (inputs,), that of its reference, and the exact contribution of every
        concept that has one."""
        columns = self.encoding.columns_of(np.stack([row, self.reference(row)]))
        probability, reference = self._probabilities(columns).tolist()
        found = self._contributions(columns[0], columns[1]) * self.manifest["calibration"]["slope"]
        contributions = dict(zip(self.encoding.concepts, found.tolist(), strict=True))
        kept = {name: part for name, part in contributions.items() if abs(part) > _ROUNDING}
        return Explanation(probability, reference, kept)

    def _apply(self, explained: Explained) -> _Answer:
        found = self.explain(explained.row)
        lower = counterfactuals(explained, found.contributions, found.probability, self.probabilities)
        return _Answer(found, drivers(explained, found.contributions), lower)

    def outcomes(self, probability: float, row: inputs.Row) -> tuple[bool, ...] | None:
        """Returns the conformal prediction set: outcomes that cannot be ruled out; None if the model has no conformal
        thresholds."""
        if self.conformal is None:
            return None
        return self.conformal.outcomes(probability, str(categories_of(self.names, row[None, :])[0]))

    def interval(self, probability: float) -> tuple[float, float]:
        """Returns the 90 % interval: the outcome rates to expect among groups of patients with such an estimate (see
        `conformal`).

        It describes groups, not whether this patient will have the outcome. See `reliability_interval` for models
        without conformal thresholds.
        """
        if self.conformal is not None:
            return self.conformal.interval(probability)
        return reliability_interval(self.manifest, probability)


def _by_language_model(findings: NoteFindings | None) -> bool:
    return findings is not None and findings.language_notes > 0


@dataclass(frozen=True, slots=True)
class _Answer:
    explanation: Explanation
    drivers: tuple[Driver, ...]
    counterfactuals: tuple[Counterfactual, ...]

    @property
    def probability(self) -> float:
        return self.explanation.probability


def shipped_folder(task: str) -> Path:
    """Returns the folder of the shipped model of a task."""
    return Path(__file__).resolve().parents[1] / "shipped" / task_of(task).id
