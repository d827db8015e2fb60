"""The literature behind a driver: papers on what was measured or counted, beside those on the patient's problems."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cds_service.explanations.driver_headings import DRIVER_HEADINGS
from cds_service.explanations.evidence import LiteratureItem, reading
from risk_model import TASKS, Driver, Pipeline

SECONDS = 1.0
"""For all drivers of a page together: what is not asked by then is said to be so."""
MAX_PAPERS = 2


@dataclass(frozen=True, slots=True)
class DriverLiterature:
    """What the literature has on a driver. `under` are the headings it was looked for under that the index knows."""

    papers: tuple[LiteratureItem, ...]
    under: tuple[str, ...]


def headings_of(driver: Driver) -> tuple[str, ...]:
    """The headings to look a driver up under; its own name where it has no row."""
    return DRIVER_HEADINGS.get(driver.concept) or (driver.label,)


def papers_for_driver(driver: Driver, task: str, pipeline: Pipeline, until: float) -> DriverLiterature | None:
    """At most two papers whose heading is this driver's; None where time (of `time.monotonic()`) was up before."""
    if time.monotonic() > until:
        return None
    words = headings_of(driver)
    found = pipeline.evidence_on(words, task)[:MAX_PAPERS]
    linked = (linked.concept.name for text in words for linked in pipeline.index.link_text(text)[:1])
    return DriverLiterature(
        tuple(reading(item, [TASKS[task].title]) for item in found), tuple(dict.fromkeys(linked)) or words
    )
