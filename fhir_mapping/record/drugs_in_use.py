"""The drugs in use at `prediction_time`: active orders and statements, and what is being given.

An administration is the strongest evidence that a drug is in use, and no order need be in the record. One counts while
its infusion runs, and a single dose for a day: most drugs are given at least daily.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from fhir_mapping.core.values import Administration, Coding
from fhir_mapping.record.record_view import RecordView

DOSE_COUNTS_FOR = timedelta(hours=24)


class DrugInUse(NamedTuple):
    """A drug with the resource that says it is in use."""

    source: str
    codings: tuple[Coding, ...]
    text: str


def drugs_in_use(record: RecordView) -> tuple[DrugInUse, ...]:
    """Returns the active orders and statements, then the drugs given now or in the last day, each drug once."""
    found = [DrugInUse(item.source, item.codings, item.text) for item in record.medications if item.active]
    ordered = {drug.source for drug in found}
    keys = {key for drug in found for key in _keys(drug)}
    for given in record.administrations:
        drug = DrugInUse(given.source, given.codings, given.text)
        if not _in_use(given, record) or given.order in ordered or not keys.isdisjoint(_keys(drug)):
            continue
        found.append(drug)
        keys.update(_keys(drug))
    return tuple(found)


def distinct(drugs: tuple[DrugInUse, ...]) -> tuple[DrugInUse, ...]:
    """Returns each drug name once."""
    return tuple({drug.text.casefold(): drug for drug in drugs}.values())


def _in_use(given: Administration, record: RecordView) -> bool:
    if given.running:
        return True
    return (given.end or given.time) >= record.prediction_time - DOSE_COUNTS_FOR


def _keys(drug: DrugInUse) -> set[object]:
    return {(coding.system, coding.code) for coding in drug.codings} | {drug.text.casefold()}
