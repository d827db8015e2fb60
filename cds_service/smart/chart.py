"""A patient's chart through the gateway, by the same searches as a card's prefetch.

The app must show the data its card was made from, so both use one set of searches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cds_hooks import FetchError, HookError, fill
from cds_service.hooks.hook_handler import HookHandler
from cds_service.hooks.locations import with_locations
from cds_service.hooks.note_attachments import binaries
from cds_service.hooks.prediction_time import prediction_time
from cds_service.hooks.prefetch import fetch_all
from cds_service.net.gateway import Gateway
from cds_service.services import SERVICES
from cds_service.smart.parts import CHART_SECONDS
from fhir_mapping import ForeignPatientError, InvalidInputError, PatientNotFoundError, PatientRecord
from fhir_mapping.parsing import FhirPrefetch

_HOOK = "patient-view"
_NOTES = frozenset({"DocumentReference", "Composition"})
_SERVICE = SERVICES["readmission-30d"]


@dataclass(frozen=True, slots=True)
class FetchedChart:
    """The resources read from the server at `fetched`. `as_of` is that time, or the encounter's end.

    Types the user may not read are *not fetched*, never *none*; `failed` says why, by the key of the search.
    """

    prefetch: FhirPrefetch
    patient: str
    encounter: str | None
    as_of: datetime
    fetched: datetime
    fetch_attachment: Callable[[str], dict[str, Any] | None]
    handler: HookHandler
    failed: Mapping[str, FetchError] = field(default_factory=dict)

    def record(self, at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord:
        """Returns the record as of a time, by default `as_of`. Raises HookError 412."""
        left_out = frozenset() if with_notes else _NOTES
        moment = at or self.as_of
        try:
            return PatientRecord.from_prefetch(
                self.prefetch,
                patient_id=self.patient,
                prediction_time=moment,
                encounter_id=self.encounter,
                expected={key: kind for key, kind in self.prefetch.expected.items() if kind not in left_out},
                fetch_attachment=self.fetch_attachment,
                site_map=self.handler.site_map,
                undated_known=moment == self.fetched,
            )
        except ForeignPatientError:
            self.handler.store.record_event("foreign-patient", "", {"service": "smart-app"})
            raise HookError(412, "conflict", "the FHIR server's answer holds another patient's data") from None
        except (PatientNotFoundError, InvalidInputError) as error:
            raise HookError(412, "structure", f"the FHIR server's answer cannot be used: {error}") from None


def fetch_chart(
    gateway: Gateway, server: str, token: str, patient: str, encounter: str | None, handler: HookHandler
) -> FetchedChart:
    """Runs the searches of a card's prefetch with the user's token. Raises HookError 401, 502."""
    deadline = time.monotonic() + CHART_SECONDS
    context = {"patientId": patient, "encounterId": encounter}
    queries = {key: fill(template, context) for key, template in _SERVICE.prefetch.items()}
    wanted = {key: query for key, query in queries.items() if query is not None}
    found, failed = fetch_all(wanted, server, token, gateway, deadline)
    if "patient" in failed:
        raise _unreadable(failed["patient"]) from failed["patient"]
    expected = {key: kind for key, kind in _SERVICE.expected().items() if key in wanted}
    now = handler.clock()
    prefetch = with_locations(FhirPrefetch(found, expected), encounter, gateway, server, token, deadline)
    return FetchedChart(
        prefetch=prefetch,
        patient=patient,
        encounter=encounter,
        as_of=prediction_time(_HOOK, prefetch.encounter(encounter), now),
        fetched=now,
        fetch_attachment=binaries(prefetch, gateway, server, token, deadline),
        handler=handler,
        failed=failed,
    )


def _unreadable(error: FetchError) -> HookError:
    if error.status == 401:
        return HookError(401, "login", "the EHR no longer grants access: launch the app again from the EHR")
    return HookError(502, "transient", f"the EHR's FHIR server could not be read ({error})", retry_after=5)
