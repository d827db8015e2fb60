"""A patient's chart through the gateway: the same searches and the same reading as a card's prefetch.

The app behind a card must show what the card was made from, so there is one set of searches for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from cds_service.answering import Answering
from cds_service.gateway import Gateway, GatewayError
from cds_service.hook_request import ID
from cds_service.outcome import HookError
from cds_service.prediction_time import find_encounter, prediction_time
from cds_service.prefetch import fetch_all, fill
from cds_service.services import SERVICES
from cds_service.smart.parts import CHART_SECONDS
from fhir_mapping import ForeignPatientError, InvalidInputError, PatientNotFoundError, PatientRecord

# Each is one more request; the searches above bring at most fifty notes.
MAX_ATTACHMENTS = 20
_HOOK = "patient-view"
_NOTES = frozenset({"DocumentReference", "Composition"})
_SERVICE = SERVICES["readmission-30d"]


@dataclass(frozen=True, slots=True)
class FetchedChart:
    """What one reading of the server brought. `as_of` is now, or the encounter's end.

    Types the user may not read are *not fetched*, never *none*.
    """

    prefetch: Mapping[str, Any]
    expected: Mapping[str, str]
    patient: str
    encounter: str | None
    as_of: datetime
    fetch_attachment: Callable[[str], dict[str, Any] | None]
    answering: Answering

    def record(self, at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord:
        """The record as known at a moment, by default `as_of`. Raises HookError 412."""
        left_out = frozenset() if with_notes else _NOTES
        try:
            return PatientRecord.from_prefetch(
                self.prefetch,
                patient_id=self.patient,
                prediction_time=at or self.as_of,
                encounter_id=self.encounter,
                expected={key: kind for key, kind in self.expected.items() if kind not in left_out},
                fetch_attachment=self.fetch_attachment,
                site_map=self.answering.site_map,
            )
        except ForeignPatientError:
            self.answering.store.record_event("foreign-patient", "", {"service": "smart-app"})
            raise HookError(412, "conflict", "the FHIR server's answer holds another patient's data") from None
        except (PatientNotFoundError, InvalidInputError) as error:
            raise HookError(412, "structure", f"the FHIR server's answer cannot be used: {error}") from None


def fetch_chart(
    gateway: Gateway, server: str, token: str, patient: str, encounter: str | None, answering: Answering
) -> FetchedChart:
    """The searches of a card's prefetch, asked with the user's token. Raises HookError 401, 502."""
    deadline = time.monotonic() + CHART_SECONDS
    context = {"patientId": patient, "encounterId": encounter}
    queries = {key: fill(template, context) for key, template in _SERVICE.prefetch.items()}
    wanted = {key: query for key, query in queries.items() if query is not None}
    found, failed = fetch_all(wanted, server, token, gateway, deadline)
    if "patient" in failed:
        raise _unreadable(failed["patient"])
    return FetchedChart(
        prefetch=found,
        expected={key: kind for key, kind in _SERVICE.expected().items() if key in wanted},
        patient=patient,
        encounter=encounter,
        as_of=prediction_time(_HOOK, find_encounter(found, encounter), answering.clock()),
        fetch_attachment=_binaries(found.get("documents"), gateway, server, token, deadline),
        answering=answering,
    )


def _unreadable(error: GatewayError) -> HookError:
    if str(error) == "status: 401":
        return HookError(401, "login", "the EHR no longer grants access: launch the app again from the EHR")
    return HookError(502, "transient", f"the EHR's FHIR server could not be read ({error})", retry_after=5)


def _binaries(
    documents: Any, gateway: Gateway, server: str, token: str, deadline: float
) -> Callable[[str], dict[str, Any] | None]:
    """Notes whose text lies in a Binary of the same server, fetched several at a time, the newest notes' first.

    Any other address is not asked, and the note then says that it was not fetched.
    """
    identifiers = (_binary_id(url, server) for url in _attachment_urls(documents))
    wanted = dict.fromkeys(identifier for identifier in identifiers if identifier is not None)
    queries = {identifier: f"Binary/{identifier}" for identifier in islice(wanted, MAX_ATTACHMENTS)}
    found, _ = fetch_all(queries, server, token, gateway, deadline)
    return lambda url: found.get(_binary_id(url, server) or "")


def _attachment_urls(bundle: Any) -> Iterator[str]:
    for entry in _objects(bundle, "entry"):
        for content in _objects(entry.get("resource"), "content"):
            attachment = content.get("attachment")
            url = attachment.get("url") if isinstance(attachment, dict) and not attachment.get("data") else None
            if isinstance(url, str):
                yield url


def _objects(holder: Any, name: str) -> list[dict[str, Any]]:
    listed = holder.get(name) if isinstance(holder, dict) else None
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _binary_id(url: str, server: str) -> str | None:
    """The id of a Binary at this very server, from an absolute or relative URL; None for everything else.

    >>> _binary_id("Binary/b1", "https://ehr.example/fhir")
    'b1'
    >>> _binary_id("https://ehr.example/fhir/Binary/b1", "https://ehr.example/fhir/")
    'b1'
    >>> _binary_id("https://evil.example/fhir/Binary/b1", "https://ehr.example/fhir") is None
    True
    """
    base = server.rstrip("/") + "/"
    relative = url.removeprefix(base)
    kind, _, identifier = relative.partition("/")
    return identifier if kind == "Binary" and ID.match(identifier) and identifier not in {".", ".."} else None
