"""Inputs from the drugs of the current stay up to the prediction: 1 for each class ordered or given since it began.

At discharge hardly any order is active any more, so the drugs in use then (`medication_*.last`) say little of the stay.
0 only if medications were fetched and the class of every drug of the stay is known; else unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fhir_mapping import Coding, PatientRecord, Stay
from fhir_mapping.terminology import classes_of, drug_class_table

PREFIX = "stay_medication_"
STAY_MEDICATIONS = tuple(f"{PREFIX}{name}.last" for name in drug_class_table())
_ORDERS = frozenset({"MedicationRequest", "MedicationStatement"})
Drug = tuple[str, tuple[Coding, ...], str]


def stay_medications(record: PatientRecord) -> dict[str, float]:
    """Returns every known input of `STAY_MEDICATIONS`: name -> 0 or 1."""
    found = _sources_by_class(record)
    if found is None:
        return {}
    named, complete = found
    known = {f"{PREFIX}{name}.last": 1.0 for name in named}
    return dict.fromkeys(STAY_MEDICATIONS, 0.0) | known if complete else known


def stay_medication_sources(record: PatientRecord, name: str) -> tuple[str, ...]:
    """Returns the orders, statements and doses behind an input of `STAY_MEDICATIONS`."""
    found = _sources_by_class(record)
    return () if found is None else found[0].get(name.removeprefix(PREFIX).removesuffix(".last"), ())


def _sources_by_class(record: PatientRecord) -> tuple[Mapping[str, tuple[str, ...]], bool] | None:
    """Returns the drugs of each class, and whether all drugs of the stay are known; None without a stay."""
    if record.current_stay is None:
        return None
    found: dict[str, list[str]] = {}
    complete = not record.not_fetched & _ORDERS and not _unreadable(record)
    for source, codings, text in drugs_of(record, record.current_stay):
        classes = classes_of(codings, text)
        complete = complete and classes is not None
        for name in classes or ():
            found.setdefault(name, []).append(source)
    return {name: tuple(sources) for name, sources in found.items()}, complete


def drugs_of(record: PatientRecord, stay: Stay) -> Iterator[Drug]:
    """Yields source, codings and text of what was ordered or given between the beginning of a stay and the prediction.

    An order without an end that is over counts up to the time by which it had ended.
    """
    for order in record.medications:
        end = order.end or order.ended_by or record.prediction_time
        begun = order.start is not None and order.start <= record.prediction_time and end >= stay.start
        if begun or (order.start is None and order.stay == stay.source):
            yield order.source, order.codings, order.text
    for dose in record.administrations:
        last = record.prediction_time if dose.running else dose.end or dose.time
        if last >= stay.start:
            yield dose.source, dose.codings, dose.text


def _unreadable(record: PatientRecord) -> bool:
    """Whether an order, statement or dose was refused, which may have been of any class."""
    return any(
        refusal.source.partition("/")[0] in {*_ORDERS, "MedicationAdministration"} and refusal.reason in _UNNAMED
        for refusal in record.refused
    )


_UNNAMED = frozenset({"medication-not-found", "no-code"})
