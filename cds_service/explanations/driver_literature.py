"""Literature on a driver: articles about the measured or counted concept."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cds_service.explanations.driver_headings import DRIVER_HEADINGS
from cds_service.explanations.evidence import LiteratureItem, reading
from risk_model import TASKS, Driver, Pipeline

SECONDS = 1.0
"""Time limit in seconds for all drivers of a page; drivers not searched by then are marked."""
MAX_PAPERS = 2


@dataclass(frozen=True, slots=True)
class DriverLiterature:
    """The articles on a driver. `under` are the searched headings that the index contains."""

    papers: tuple[LiteratureItem, ...]
    under: tuple[str, ...]


def headings_of(driver: Driver) -> tuple[str, ...]:
    """The headings to search for a driver; its own name without a row in DRIVER_HEADINGS."""
    return DRIVER_HEADINGS.get(driver.concept) or (driver.label,)


def papers_for_driver(driver: Driver, task: str, pipeline: Pipeline, until: float) -> DriverLiterature | None:
    """Returns at most two articles under this driver's headings; None after `until` (a `time.monotonic()` value)."""
    if time.monotonic() > until:
        return None
    headings = headings_of(driver)
    found = pipeline.evidence_on(headings, task)[:MAX_PAPERS]
    linked = (linked.concept.name for text in headings for linked in pipeline.index.link_text(text)[:1])
    return DriverLiterature(
        tuple(reading(item, [TASKS[task].title]) for item in found), tuple(dict.fromkeys(linked)) or headings
    )
