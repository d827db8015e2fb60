"""The current risk of each task: natural frequency, interval, and bars beside the cohort average and scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cds_service.cards.card import NEVER_WARNS
from cds_service.cards.scores import comparable_risk, disagreement, fitting_scores, leading_score, points_words
from cds_service.cards.wording import outcome_name, percent, percent_range
from fhir_mapping import PatientRecord
from risk_model import RiskEstimate, RiskModel, ScoreResult, why_no_score
from risk_model.models import describe_prediction_set

# Ends of a bar's scale: a risk of 3 % stays visible without a bar of 90 % beside it.
SCALES = (0.05, 0.1, 0.25, 0.5, 1.0)
ACROSS, DOWN = 10, 10
# The training cohorts of the shipped models. A model trained by a site describes its own patients.
LEARNED_FROM = {
    "riskcards-icu-mortality-cinc2012": "adult intensive care stays, 2001–2008",
    "riskcards-readmission-diabetes130": "diabetic inpatients, 1999–2008",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the comparison; lengths in percent of the scale."""

    label: str
    value: str
    length: float
    low: float | None = None
    high: float | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    name: str
    points: str
    band: str
    alarm: bool
    says: str
    missing: str
    inputs: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class RiskNow:
    """Formatted text of one estimate: `probability` with bars, or `abstention`; scores in both cases."""

    task: str
    title: str
    outcome: str
    learned_from: str
    probability: str | None
    of_100: int
    frequency: str
    interval: str
    against: str
    prediction_set: str
    bars: tuple[Bar, ...]
    scale: str
    abstention: str | None
    code: str | None
    scores: tuple[Score, ...]
    no_score: str
    """Why there is no established score, where there is none."""
    cautions: tuple[str, ...]
    model: str
    voice: str
    """How a language model's own estimate contributes, as text."""
    disagreement: str
    """The sentence that says that estimate and score disagree; empty where they do not."""

    @property
    def dots(self) -> tuple[tuple[int, int, bool], ...]:
        """(x, y, filled) of a hundred patients, filled in reading order."""
        return tuple((n % ACROSS, n // ACROSS, n < self.of_100) for n in range(ACROSS * DOWN))


def risk_now(estimate: RiskEstimate, model: RiskModel, record: PatientRecord) -> RiskNow:
    """Returns the view of an estimate of `record`; `model` made it and describes its training cohort."""
    task, best = estimate.asked, leading_score(estimate)
    probability = estimate.probability
    bars = tuple(_bars(estimate))
    quiet = estimate.abstention is not None and estimate.abstention.code in NEVER_WARNS
    return RiskNow(
        task=task.id,
        title=outcome_name(task),
        outcome=task.outcome,
        learned_from=LEARNED_FROM.get(estimate.model_id) or str(model.manifest["population"]["in_words"]),
        probability=None if probability is None else percent(probability),
        of_100=0 if probability is None else round(100 * probability),
        frequency="" if probability is None else frequency(probability),
        interval="" if estimate.interval is None else format_interval(estimate.interval),
        against=_against(estimate),
        prediction_set="" if estimate.prediction_set is None else describe_prediction_set(estimate.prediction_set),
        bars=bars,
        scale=f"{100 * _scale(estimate):.0f} %",
        abstention=None if estimate.abstention is None else estimate.abstention.reason,
        code=None if estimate.abstention is None else estimate.abstention.code,
        scores=tuple(_score(score, quiet) for score in sorted(fitting_scores(estimate), key=lambda s: s is not best)),
        no_score="" if estimate.comparators else why_no_score(record, estimate.task),
        cautions=estimate.cautions,
        model=f"{estimate.model_id} {estimate.model_version}",
        voice="" if estimate.voice is None else estimate.voice.in_words(estimate.reasons),
        disagreement=disagreement(estimate),
    )


def frequency(probability: float) -> str:
    """
    >>> frequency(0.148), frequency(0.004), frequency(0.013)
    ('about 15 of 100', 'fewer than 1 of 100', 'about 1 of 100')
    """
    if probability < 0.01:
        return "fewer than 1 of 100"
    return "more than 99 of 100" if probability > 0.99 else f"about {round(100 * probability)} of 100"


def format_interval(interval: tuple[float, float]) -> str:
    return percent_range(*interval)


def _against(estimate: RiskEstimate) -> str:
    """The ratio to the cohort average as text; "about as high as" near one."""
    if estimate.probability is None or not estimate.baseline:
        return ""
    ratio = estimate.probability / estimate.baseline
    if 0.9 <= ratio <= 1.1:
        return "about as high as"
    return f"{ratio:.1f} times as high as" if ratio >= 0.1 else "less than a tenth of"


def _scale(estimate: RiskEstimate) -> float:
    shown = [estimate.probability or 0.0, estimate.baseline or 0.0, *(estimate.interval or ())]
    shown += [end for score in fitting_scores(estimate) for end in comparable_risk(score) or ()]
    return next(end for end in SCALES if max(shown) <= end)


def _bars(estimate: RiskEstimate) -> Iterator[Bar]:
    end = _scale(estimate)

    def along(value: float) -> float:
        return round(100 * value / end, 2)

    if estimate.probability is not None:
        low, high = estimate.interval or (None, None)
        yield Bar(
            "This patient",
            percent(estimate.probability),
            along(estimate.probability),
            None if low is None else along(low),
            None if high is None else along(high),
            ours=True,
        )
    if estimate.baseline is not None:
        yield Bar("Cohort average", percent(estimate.baseline), along(estimate.baseline))
    for score in fitting_scores(estimate):
        risk = comparable_risk(score)
        if risk is not None:
            low, high = map(along, risk)
            # A range of points is drawn as a range of risks: its bar is the part that is sure.
            ends = (low, high) if low != high else (None, None)
            yield Bar(f"{score.name} {points_words(score)}", percent_range(*risk), low, *ends)


def _score(score: ScoreResult, quiet: bool) -> Score:
    """`quiet` for patients whose high score raises no alarm, as on cards."""
    says = [score.band] if score.band else []
    risk = score.published_risk
    if risk is not None:
        says.append(f"published risk {percent_range(*risk)} ({score.published_outcome})")
    if not score.inputs:
        says = ["not calculated: no input is known"]
    elif not says:
        says = ["level depends on missing inputs"] if score.missing else ["no published risk"]
    points = score.in_words() if score.inputs else "–"
    band = score.band or ""
    return Score(
        score.name, points, band, band == "high" and not quiet, ", ".join(says), ", ".join(score.missing), score.inputs
    )
