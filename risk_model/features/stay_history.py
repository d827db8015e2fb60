"""Inputs from a patient's earlier inpatient stays at the end of this one: number, recency, length and discharge.

Known only if Encounters were fetched, and the class of every earlier one is understood. A stay with equal start and
end has no known length.
"""

from __future__ import annotations

from datetime import timedelta

from fhir_mapping import PatientRecord, Stay, StayClass

HISTORY = (
    "earlier_stay.count", "earlier_stay.within_30d", "earlier_stay.length", "earlier_stay.same_reason",
    "earlier_stay.to_home", "earlier_stay.before_last_365d", "earlier_stay.close_together",
)  # fmt: skip
MONTH, YEAR = timedelta(days=30), timedelta(days=365)
_CATEGORY = 3  # characters of an ICD code that name the disease without its detail


def history(record: PatientRecord) -> dict[str, float]:
    """Returns every known input of `HISTORY`: name -> number."""
    now = record.current_stay
    if now is None or "Encounter" in record.not_fetched:
        return {}
    if any(stay.class_unknown and stay.start < now.start for stay in record.stays):
        return {}  # any of them may be an inpatient stay
    before = earlier_stays(record, now)
    known = {"earlier_stay.count": float(len(before)), "earlier_stay.within_30d": 0.0}
    if not before:
        return known
    last = before[-1]
    known["earlier_stay.within_30d"] = float(now.start - (last.end or last.start) <= MONTH)
    gaps = zip(before, [*before[1:], now], strict=True)
    known["earlier_stay.close_together"] = float(sum(b.start - (a.end or a.start) <= MONTH for a, b in gaps))
    year_before = [stay for stay in before[:-1] if last.start - stay.start <= YEAR]
    known["earlier_stay.before_last_365d"] = float(len(year_before))
    length = last.days_until(record.prediction_time)
    if length:
        known["earlier_stay.length"] = length
    if last.destination is not None:
        known["earlier_stay.to_home"] = float(last.destination == "home")
    categories = [{(c.system, c.code[:_CATEGORY]) for c in stay.reasons} for stay in (last, now)]
    if all(categories):
        known["earlier_stay.same_reason"] = float(bool(categories[0] & categories[1]))
    return known


def earlier_stays(record: PatientRecord, now: Stay) -> list[Stay]:
    """Returns inpatient stays that began before this one, oldest first."""
    stays = [s for s in record.stays if s.stay_class is StayClass.INPATIENT and s.source != now.source]
    return sorted((stay for stay in stays if stay.start < now.start), key=lambda stay: stay.start)
