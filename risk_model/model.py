"""Stage 2 at work: a record in, a RiskEstimate out, or an abstention with its reason.

The model's own manifest states its population and the inputs it needs; outside them it abstains. What the notes say is
shown beside the estimate and does not move it: the data the shipped models learned from have no notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from fhir_mapping import FeatureVector, PatientRecord
from risk_model import inputs
from risk_model.artifacts import open_manifest
from risk_model.boosting import xgboost
from risk_model.errors import ModelArtifactError
from risk_model.scores import comparators
from risk_model.tables import active_groups
from risk_model.tasks import task_of
from risk_model.values import Abstention, DataGap, Driver, NoteFindings, RiskEstimate

MAX_DRIVERS = 8
ALWAYS_KNOWN = 0.999
SMALLEST_CONTRIBUTION = 0.02  # log-odds; below it a driver is noise to a reader
_Z90 = 1.6448536269514722
_NEIGHBOURS = 1


@dataclass(frozen=True, slots=True)
class RiskModel:
    """A fitted model and its manifest.

    RiskModel.open(path).estimate(record, findings)
    """

    manifest: Mapping[str, Any]
    names: tuple[str, ...]
    folder: Path
    _booster: Any

    @classmethod
    def open(cls, folder: str | Path) -> RiskModel:
        """Open a model directory; every file's hash is checked first.

        Raises ModelArtifactError when it is missing, altered, of another format, or its inputs are not those the
        manifest names.
        """
        folder = Path(folder)
        manifest = open_manifest(folder)
        booster = xgboost().Booster({"nthread": 1})
        try:
            booster.load_model(folder / "model.ubj")
        except xgboost().core.XGBoostError:
            raise ModelArtifactError("not a model that xgboost can read", path=str(folder / "model.ubj")) from None
        names = tuple(item["name"] for item in manifest["inputs"])
        if tuple(booster.feature_names or ()) != names:
            raise ModelArtifactError("its inputs are not those of the manifest", path=str(folder / "model.ubj"))
        return cls(manifest, names, folder, booster)

    @property
    def task(self) -> str:
        return str(self.manifest["task"])

    def estimate(self, record: PatientRecord, findings: NoteFindings | None = None) -> RiskEstimate:
        """Probability with interval and drivers, or an abstention; comparators and data gaps in both cases."""
        vector = record.features()
        row = inputs.row(record, self.names, vector)
        abstention = self.abstention(record, vector) or self._unlearned(row)
        probability: float | None = None
        drivers: tuple[Driver, ...] = ()
        if abstention is None:
            probability, drivers = self._apply(record, vector, row)
        return RiskEstimate(
            task=self.task,
            subject_id=record.subject_id,
            prediction_time=record.prediction_time,
            probability=probability,
            interval=None if probability is None else self.interval(probability),
            baseline=float(self.manifest["baseline"]),
            drivers=drivers,
            comparators=comparators(record, self.task),
            gaps=self._gaps(row, vector),
            abstention=abstention,
            model_id=str(self.manifest["model_id"]),
            model_version=str(self.manifest["version"]),
            stay=None if record.current_stay is None else record.current_stay.source,
        )

    def _apply(self, record: PatientRecord, vector: FeatureVector, row: inputs.Row) -> tuple[float, tuple[Driver, ...]]:
        data = xgboost().DMatrix(row[None, :], feature_names=list(self.names), nthread=1)
        contributions = np.asarray(self._booster.predict(data, pred_contribs=True), dtype=np.float64)[0]
        calibration = self.manifest["calibration"]
        logit = calibration["intercept"] + calibration["slope"] * float(contributions.sum())
        scaled = contributions[:-1] * calibration["slope"]
        return 1 / (1 + exp(-logit)), self._drivers(record, vector, row, scaled)

    def _drivers(
        self, record: PatientRecord, vector: FeatureVector, row: inputs.Row, contributions: np.ndarray[Any, Any]
    ) -> tuple[Driver, ...]:
        """Contributions summed by clinical concept (exact tree SHAP adds up), the largest first."""
        by_concept: dict[str, float] = {}
        for name, contribution in zip(self.names, contributions, strict=True):
            concept = inputs.concept_of(name)
            by_concept[concept] = by_concept.get(concept, 0.0) + float(contribution)
        ranked = sorted(by_concept.items(), key=lambda item: -abs(item[1]))
        drivers = []
        for concept, contribution in ranked:
            names = [name for name in self.names if inputs.concept_of(name) == concept]
            value = _value_in_words(record, concept, names, row, self.names, vector)
            if abs(contribution) < SMALLEST_CONTRIBUTION or value is None:
                continue
            sources = tuple(dict.fromkeys(s for name in names for s in inputs.sources(record, name, vector)))
            modifiable = concept in inputs.MODIFIABLE
            drivers.append(Driver(concept, inputs.label_of(concept), value, contribution, modifiable, sources[:5]))
        return tuple(drivers[:MAX_DRIVERS])

    def interval(self, probability: float) -> tuple[float, float]:
        """90 % interval: the outcome rate among the out-of-fold patients with the most similar estimates (Wilson).

        It says how sure we are of the rate among such patients, not whether this patient will have the outcome. Several
        rows of one patient (24 h and 48 h, repeated stays) are not several patients: they count as one between them.
        """
        bins: Sequence[Mapping[str, float]] = self.manifest["reliability"]
        nearest = min(range(len(bins)), key=lambda i: abs(bins[i]["probability"] - probability))
        near = bins[max(0, nearest - _NEIGHBOURS) : nearest + _NEIGHBOURS + 1]
        rows, outcomes = sum(b["patients"] for b in near), sum(b["outcomes"] for b in near)
        share = self.manifest["patients"] / self.manifest["rows"]
        low, high = _wilson(outcomes * share, rows * share)
        return min(low, probability), max(high, probability)

    def _gaps(self, row: inputs.Row, vector: FeatureVector) -> tuple[DataGap, ...]:
        """Concepts of which the model knows nothing here, though training patients mostly had them."""
        gaps: dict[str, str] = {}
        usual: dict[str, float] = {}
        known: set[str] = set()
        for item, value in zip(self.manifest["inputs"], row, strict=True):
            concept = inputs.concept_of(item["name"])
            usual[concept] = max(usual.get(concept, 0.0), item["known"])
            if np.isfinite(value):
                known.add(concept)
        for concept, share in usual.items():
            if concept not in known and share >= 0.25:
                gaps[concept] = vector.unknown.get(f"{concept}.last", "unknown")
        return tuple(DataGap(inputs.label_of(concept), reason) for concept, reason in gaps.items())

    def abstention(self, record: PatientRecord, vector: FeatureVector) -> Abstention | None:
        """Why this model may not speak for this patient now, or None."""
        population = self.manifest["population"]
        fits = f"The model was fitted on {population['in_words']}"
        age = vector.number("age.last")
        stay = record.current_stay
        if record.deceased is not None:
            return Abstention("deceased", "The record says that the patient has died.")
        if stay is None:
            return Abstention("no-inpatient-stay", "There is no inpatient stay at this moment.")
        if age is None:
            return Abstention("age-unknown", f"The age is not known. {fits}.")
        if age < population["minimum_age"]:
            return Abstention("too-young", f"The patient is {age:.0f} years old. {fits}.")
        if population.get("intensive_care") and not stay.intensive_care:
            return Abstention("not-intensive-care", f"The record does not show intensive care. {fits}.")
        outside = self._outside_time(vector, population) or self._outside_stay(record, population)
        if outside is not None:
            return Abstention(outside[0], f"{outside[1]} {fits}.")
        names = population["needs"]
        have = sum(vector.number(name) is not None for name in names)
        if have < population["needs_at_least"]:
            missing = f"Only {have} of {len(names)} basic inputs are known; {population['needs_at_least']} are needed."
            return Abstention("too-little-data", missing)
        return None

    def _unlearned(self, row: inputs.Row) -> Abstention | None:
        """Abstain when an input is unknown that training always knew: no tree has learned what its absence means."""
        missing = {
            inputs.label_of(inputs.concept_of(item["name"]))
            for item, value in zip(self.manifest["inputs"], row, strict=True)
            if item["known"] >= ALWAYS_KNOWN and not np.isfinite(value)
        }
        if not missing:
            return None
        named = ", ".join(sorted(missing)[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        reason = f"The model always had these inputs when it learned, and lacks them here: {named}."
        return Abstention("input-unknown", reason)

    def _outside_time(self, vector: FeatureVector, population: Mapping[str, Any]) -> tuple[str, str] | None:
        hours = vector.number("hours_since_admission.last") or 0.0
        if hours < population.get("minimum_hours", 0):
            return "too-early", f"Only {hours:.0f} hours have passed since admission."
        if hours > population.get("maximum_hours", float("inf")):
            return "too-late", f"{hours / 24:.0f} days have passed since admission."
        return None

    def _outside_stay(self, record: PatientRecord, population: Mapping[str, Any]) -> tuple[str, str] | None:
        required = population.get("requires_groups")
        if required and not set(required) & set(active_groups(record)):
            if "Condition" in record.not_fetched:
                return "conditions-not-fetched", "The problem list was not available, so diabetes is unknown."
            return "outside-population", "No diabetes is recorded."
        stay = record.current_stay
        if stay is not None and stay.discharge_disposition in population.get("excluded_dispositions", ()):
            return "died-or-hospice", "The stay ended in death or hospice."
        return None


def _wilson(events: float, n: float) -> tuple[float, float]:
    """Wilson score interval at 90 %.

    >>> low, high = _wilson(10, 100)
    >>> round(low, 3), round(high, 3)
    (0.061, 0.16)
    """
    if n == 0:
        return 0.0, 1.0
    p, z = events / n, _Z90
    centre, spread = (p + z * z / (2 * n)), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def _value_in_words(
    record: PatientRecord,
    concept: str,
    names: Sequence[str],
    row: inputs.Row,
    all_names: Sequence[str],
    vector: FeatureVector,
) -> str | None:
    """A driver's value as a clinician would write it, or None when nothing is known of it."""
    values = dict(zip(all_names, row.tolist(), strict=True))
    known = [name for name in names if np.isfinite(values[name])]
    if not known:
        return None
    if concept == "discharged_to":
        went = [name.partition(".")[2] for name in known if values[name]]
        return _WENT.get(went[0], "elsewhere") if went else "elsewhere"
    if concept == "sex":
        return record.sex
    if any(name.startswith("group.") for name in names):
        # A disease that is not there is no driver a reader could use, though trees lean on its absence.
        return "recorded" if any(values[name] for name in known) else None
    if concept in _FLAGS:
        return "yes" if values[known[0]] else "no"
    last = vector.values.get(f"{concept}.last")
    if last is None:
        return f"{values[known[0]]:g}"
    number = f"{last.value:.3g}" if not isinstance(last.value, str) else last.value
    words = f"{number} {_UNITS.get(last.unit or '', last.unit or '')}".strip()
    low, high = vector.number(f"{concept}.min"), vector.number(f"{concept}.max")
    if low is not None and high is not None and low != high:
        words += f" (range {low:.3g} to {high:.3g})"
    return words


_FLAGS = frozenset({"acute_admission", "mechanical_ventilation", "intensive_care"})
_WENT = {
    "home": "home",
    "home_care": "home with home care",
    "facility": "a nursing or rehabilitation facility",
    "hospital": "another hospital",
    "against_advice": "home against medical advice",
}
_UNITS = {
    "a": "years", "d": "days", "h": "hours", "mm[Hg]": "mmHg", "Cel": "°C", "{score}": "", "[pH]": "", "{INR}": "",
    "10*3/uL": "×10³/µL", "1": "", "/min": "per minute",
}  # fmt: skip


def shipped_folder(task: str) -> Path:
    """Where the shipped model of a task lies."""
    return Path(__file__).parent / "shipped" / task_of(task).id
