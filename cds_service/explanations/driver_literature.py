"""Literature on a driver: articles about the measured or counted factor and the estimate's outcome."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from cds_service.explanations.evidence import LiteratureItem, reading
from risk_model import TASKS, Driver, Pipeline

SECONDS = 1.0
"""Time limit in seconds for all drivers of a page; drivers not searched by then are marked."""
MAX_PAPERS = 2


@dataclass(frozen=True, slots=True)
class DriverLiterature:
    """The articles on a driver, or sentences that say what no article is about."""

    papers: tuple[LiteratureItem, ...]
    gaps: tuple[str, ...] = ()


def papers_for_driver(
    driver: Driver,
    task: str,
    pipeline: Pipeline,
    until: float,
    own: Collection[str] | None = None,
) -> DriverLiterature | None:
    """Returns at most two articles about this driver and the outcome; None after `until` (of `time.monotonic()`).

    `own` are the patient's factors (`Assessment.factors`): papers about other patients are left out.
    """
    if time.monotonic() > until:
        return None
    found = pipeline.evidence_on(driver.concept, task, own)[:MAX_PAPERS]
    if found:
        return DriverLiterature(tuple(reading(item, [TASKS[task].title]) for item in found))
    subjects = pipeline.subjects_of(driver.concept, task, own)
    gaps = tuple(subject.gap_in_words() for subject in subjects)
    return DriverLiterature((), gaps or (f"The evidence base has no study of {driver.label} and this outcome",))
