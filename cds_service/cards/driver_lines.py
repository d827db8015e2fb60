"""The lines of a card about what raises and what lowers an estimate; every driver is in the app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from cds_service.cards.wording import driver_words
from risk_model import IN_HOSPITAL_MORTALITY, Driver, RiskEstimate

LEAST = 0.05
"""Log-odds: a driver that changes the odds by less than a twentieth is not worth a clinician's second."""
# Few problems, drugs or days tell that little is recorded or that the stay is young, not that the patient is well.
_NO_PROTECTION = frozenset(
    {
        "condition", "medication", "procedure", "length_of_stay", "earlier_stay", "inpatient_stay", "emergency_visit",
        "outpatient_visit",
    }
)  # fmt: skip
# Concepts that state the same fact; on a card the strongest speaks for all.
_SAME_FACT: Mapping[str, str] = MappingProxyType(
    {
        "admitted_from": "acute_admission", "inpatient_stay": "earlier_stay",
        "bun_creatinine": "bun", "mild_liver": "liver", "severe_liver": "liver",
        "any_diabetes": "diabetes", "diabetes_end_organ": "diabetes", "mean_bp": "systolic_bp",
        "diastolic_bp": "systolic_bp", "pao2_fio2": "pao2", "sao2": "spo2", "hematocrit": "hemoglobin",
        "spread_cancer": "cancer", "urine_output_per_kg": "urine_output",
    }
)  # fmt: skip
# The shipped model of hospital death has no diagnoses as inputs: of these it says nothing.
_NOTHING_RAISES: Mapping[str, str] = MappingProxyType({IN_HOSPITAL_MORTALITY: "No abnormal value raises the risk."})


def driver_lines(estimate: RiskEstimate, strongest: int, *, escaped: bool = True) -> Iterator[str]:
    """Returns the lines `Raises: ...` and `Lowers: ...`, at most `strongest` drivers each.

    Where nothing raises the risk, the first line says so: an empty place would be read as forgotten. `escaped` for
    Markdown, as cards are; a page escapes for itself.
    """
    raising = list(_distinct(d for d in estimate.drivers if d.contribution >= LEAST))
    lowering = list(_distinct(d for d in estimate.drivers if _protects(d)))
    if raising:
        yield _line("Raises", raising[:strongest], escaped)
    elif any(driver.contribution > 0 for driver in estimate.drivers):
        yield "No single finding raises the risk noticeably."
    else:
        yield nothing_raises(estimate.task)
    if lowering:
        yield _line("Lowers", lowering[:strongest], escaped)


def nothing_raises(task: str) -> str:
    """Returns the sentence for an estimate without a driver that raises it."""
    return _NOTHING_RAISES.get(task, "No input of the model raises the risk.")


def _protects(driver: Driver) -> bool:
    return driver.contribution <= -LEAST and driver.concept not in _NO_PROTECTION


def _distinct(drivers: Iterable[Driver]) -> Iterator[Driver]:
    """Yields the strongest driver of each fact, the strongest first."""
    named: set[str] = set()
    for driver in sorted(drivers, key=lambda one: -abs(one.contribution)):
        fact = _SAME_FACT.get(driver.concept, driver.concept)
        if fact not in named:
            named.add(fact)
            yield driver


def _line(title: str, drivers: Sequence[Driver], escaped: bool) -> str:
    words = dict.fromkeys(driver_words(driver, escaped=escaped) for driver in drivers)
    return f"{title}: {', '.join(words)}."
