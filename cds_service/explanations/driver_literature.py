"""Literature on a driver: articles about the measured or counted factor and the estimate's outcome."""

from __future__ import annotations

import time
from collections.abc import Iterable
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
    codings: Iterable[tuple[str | None, str, str | None]] = (),
) -> DriverLiterature | None:
    """Returns at most two articles about this driver and the outcome; None after `until` (of `time.monotonic()`).

    `codings` are those of the conditions behind a driver that is a group of diagnoses.
    """
    if time.monotonic() > until:
        return None
    given = tuple(codings)
    found = pipeline.evidence_on(driver.concept, task, given)[:MAX_PAPERS]
    if found:
        return DriverLiterature(tuple(reading(item, [TASKS[task].title]) for item in found))
    subjects = pipeline.subjects_of(driver.concept, task, given)
    gaps = tuple(subject.gap_in_words() for subject in subjects)
    return DriverLiterature((), gaps or (f"The evidence base has no study of {driver.label} and this outcome",))
