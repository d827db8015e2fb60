"""The newest estimates of each patient, encrypted in the store, for the ward list and for write-back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cds_service.cards.driver_lines import driver_lines
from cds_service.cards.scores import leading_score, score_words
from cds_service.config.settings import Settings
from cds_service.oauth.vault import Vault
from cds_service.services import SERVICES
from cds_service.store.store import Store
from risk_model import Assessment, LevelPolicy, compare_with_score

KIND = "estimate"
KEPT = timedelta(days=7)
STRONGEST = 3
"""Drivers named in the line that says why."""
_SERVICE = SERVICES["hospital-risk"]


@dataclass(frozen=True, slots=True)
class FreshEstimate:
    """One outcome of one patient: a probability with its interval, or the reason why there is none."""

    task: str
    probability: float | None
    interval: tuple[float, float] | None
    baseline: float | None
    abstention: str
    why: str
    """One line, as on a card but not escaped for Markdown: what raises, what lowers."""
    warns: bool
    """Whether a card with it would be a warning."""
    score: str
    score_high: bool
    """Whether the score's level is high, for patients without an estimate."""
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PatientEstimates:
    """What was estimated for a patient from the chart as it was read at `read`; without estimates, `problem` says why.

    `card` is the id of the stored record, by which `riskcards replay` recomputes it.
    """

    stay: str
    read: datetime
    card: str
    tasks: Mapping[str, FreshEstimate]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FreshEstimates:
    """FreshEstimates(vault, store).put("general", "Patient/1", found) · .get_many("general", [...])

    Raises StoreError.
    """

    vault: Vault
    store: Store

    def put(self, server: str, patient: str, found: PatientEstimates) -> None:
        """Replaces the patient's estimates."""
        name, value = self._name(server, patient), asdict(found) | {"read": found.read.isoformat()}
        expires = datetime.now(UTC) + KEPT
        if not self.vault.replace(KIND, name, value, expires) and not self.vault.put(KIND, name, value, expires):
            self.vault.replace(KIND, name, value, expires)  # another worker was first

    def drop(self, server: str, patient: str) -> None:
        self.vault.drop(KIND, self._name(server, patient))

    def get_many(self, server: str, patients: Sequence[str]) -> dict[str, PatientEstimates]:
        """The patients that have any."""
        names = {self._name(server, patient): patient for patient in patients}
        found = self.vault.get_many(KIND, list(names))
        return {names[name]: _opened(value) for name, value in found.items()}

    def _name(self, server: str, patient: str) -> str:
        return self.store.resource_hash(server, patient)


def fresh_estimate(assessment: Assessment, settings: Settings) -> FreshEstimate:
    """Returns what the ward list shows of an assessment, at the level of a card of patient-view."""
    estimate = assessment.estimate
    score = leading_score(estimate)
    deciding = compare_with_score(estimate).deciding(LevelPolicy(settings.level_follows), estimate.decisive)
    threshold = settings.thresholds_of(_SERVICE.id, _SERVICE.tasks)[estimate.task]
    shown = estimate.probability is not None
    return FreshEstimate(
        task=estimate.task,
        probability=estimate.probability,
        interval=estimate.interval,
        baseline=estimate.baseline,
        abstention="" if estimate.abstention is None else estimate.abstention.reason,
        why=" ".join(driver_lines(estimate, STRONGEST, escaped=False)) if shown else "",
        warns=shown and deciding is not None and deciding >= threshold,
        score="" if score is None else score_words(score),
        score_high=score is not None and score.band == "high",
        cautions=estimate.cautions,
    )


def _opened(value: Mapping[str, Any]) -> PatientEstimates:
    tasks = {
        task: FreshEstimate(
            **{
                **found,
                "interval": None if found["interval"] is None else tuple(found["interval"]),
                "cautions": tuple(found["cautions"]),
            }
        )
        for task, found in value["tasks"].items()
    }
    read = datetime.fromisoformat(value["read"])
    return PatientEstimates(value["stay"], read, value["card"], tasks, value["problem"])
