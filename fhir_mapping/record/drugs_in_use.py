"""The drugs in use at `prediction_time`: active orders and statements, and what is being given.

An administration is the strongest evidence that a drug is in use, and the record may hold no order for it. One counts
while its infusion runs, and a dose for a day after it: most drugs are given at least daily. Drugs given by infusion
(`continuous` in `medication_classes.yaml`) are of their class only while it runs, or within the hour.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from fhir_mapping.core.values import Administration, Coding
from fhir_mapping.record.record_view import RecordView

DOSE_COUNTS_FOR = timedelta(hours=24)
CONTINUOUS_COUNTS_FOR = timedelta(hours=1)


class DrugInUse(NamedTuple):
    """A drug and the resource that shows its use."""

    source: str
    codings: tuple[Coding, ...]
    text: str
    continues: bool = True
    """Whether it is ordered, or given now or in the last hour."""


def drugs_in_use(record: RecordView) -> tuple[DrugInUse, ...]:
    """Returns the active orders and statements, then the drugs given now or in the last day, each drug once."""
    found = [DrugInUse(item.source, item.codings, item.text) for item in record.medications if item.active]
    ordered = {drug.source for drug in found}
    keys = {key for drug in found for key in _keys(drug)}
    for given in sorted(
        record.administrations, key=lambda item: (not item.running, record.prediction_time - item.time)
    ):
        drug = DrugInUse(given.source, given.codings, given.text, _within(given, record, CONTINUOUS_COUNTS_FOR))
        if not _within(given, record, DOSE_COUNTS_FOR) or given.order in ordered or not keys.isdisjoint(_keys(drug)):
            continue
        found.append(drug)
        keys.update(_keys(drug))
    return tuple(found)


def distinct(drugs: tuple[DrugInUse, ...]) -> tuple[DrugInUse, ...]:
    """Returns each drug name once."""
    return tuple({drug.text.casefold(): drug for drug in drugs}.values())


def _within(given: Administration, record: RecordView, span: timedelta) -> bool:
    return given.running or (given.end or given.time) >= record.prediction_time - span


def _keys(drug: DrugInUse) -> set[object]:
    return {(coding.system, coding.code) for coding in drug.codings} | {drug.text.casefold()}
