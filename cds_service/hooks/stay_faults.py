"""Whether a request about no stay is answered with no card, or with an error: an error is never an empty list."""

from __future__ import annotations

from cds_hooks import HookRequest
from fhir_mapping import PatientRecord

# Reasons of `PatientRecord.no_stay`; any other means that it is unknown whether the patient is in hospital.
_CERTAINLY_NO_STAY = frozenset({"no-stay", "encounter-not-found"})
# An Encounter of such a status is no stay, whatever else it says.
_NO_STAYS = frozenset({"status-cancelled", "status-planned", "status-entered-in-error"})


def certainly_no_stay(record: PatientRecord) -> bool:
    return record.no_stay in _CERTAINLY_NO_STAY


def stay_fault(request: HookRequest, hook: str, record: PatientRecord, *, found: bool) -> str | None:
    """What is wrong with a request whose record certainly has no stay, in words with a code of docs/reasons.md.

    None where a chart was opened, in patient-view, on a patient or a visit that has no risk to show. `found`: the data
    have an Encounter of the context's id.
    """
    asked = request.encounter_id
    unusable = {
        refusal.source: refusal.reason
        for refusal in reversed(record.refused)
        if refusal.source.startswith("Encounter/") and refusal.reason not in _NO_STAYS | {"encounter-not-found"}
    }
    if asked is None:
        if not unusable or record.encounters or record.undated_encounters:
            return None
        return f"no Encounter of the data can be used: {next(iter(unusable.values()))}"
    if not found:
        return "context.encounterId: no such encounter in the data"
    reason = unusable.get(f"Encounter/{asked}") if record.no_stay == "encounter-not-found" else None
    if reason is not None:
        return f"context.encounterId: the encounter cannot be used: {reason}"
    return None if hook == "patient-view" else "context.encounterId: no such inpatient stay in the data"
