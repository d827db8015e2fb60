"""`--fhir-server URL`: the ward of a FHIR server, read once through the gateway. Unusable charts are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from cds_hooks import FHIR_ID
from cds_service.demo.ward.patients import DemoPatient, DemoWard, as_it_is, as_of_now, check, running_since
from cds_service.hooks.full_chart import fetch_patient_resources
from cds_service.net.fhir_server import GatewayFhirServer
from cds_service.net.gateway import Gateway, GatewayError
from fhir_mapping import FhirMappingError, InvalidInputError
from fhir_mapping.parsing import Resource

MAX_PATIENTS = 30
LIST_SECONDS, CHART_SECONDS = 20.0, 60.0
# A longer open stay was probably never closed.
LONGEST_STAY = timedelta(days=180)
_NOT_FHIR = (KeyError, TypeError, AttributeError, IndexError)
Say = Callable[[str], None]


def from_server(
    url: str, private_networks: Iterable[str] = (), say: Say = lambda words: None, now: datetime | None = None
) -> DemoWard:
    """At most 30 patients, those whose stay is running first. Raises InvalidInputError if none can be listed.

    A running stay is shown as it is. Where a patient has none, the chart is moved in time so that the last inpatient
    stay is current; the story beside the name says so.
    """
    networks, now = tuple(private_networks), now or datetime.now(UTC)
    try:
        chosen = _chosen(GatewayFhirServer(Gateway([url], LIST_SECONDS, networks), url))
    except GatewayError as error:
        raise InvalidInputError(f"{url}: patients cannot be listed ({error})") from None
    if not chosen:
        raise InvalidInputError(f"{url}: there is no Patient on this server")
    patients: dict[str, DemoPatient] = {}
    refused: list[tuple[str, str]] = []
    for number, identifier in enumerate(chosen[:MAX_PATIENTS], start=1):
        say(f"reading charts: {number} of {min(len(chosen), MAX_PATIENTS)}")
        try:
            patient = _patient(url, identifier, networks, now)
            check(patient)
            patients[patient.id] = patient
        except (GatewayError, FhirMappingError, ValueError) as error:
            refused.append((f"Patient/{identifier}", str(error)[:200]))
        except _NOT_FHIR as error:
            refused.append((f"Patient/{identifier}", f"not FHIR R4 as we know it ({error.__class__.__name__})"))
    if len(chosen) > MAX_PATIENTS:
        refused.append((url, f"only {MAX_PATIENTS} patients are shown"))
    return DemoWard(patients, tuple(refused), f"patients of {url}")


def _chosen(server: GatewayFhirServer) -> list[str]:
    """Ids, those of running inpatient stays first. A server that cannot search encounters so still lists patients."""
    try:
        running = server.search("Encounter", status="in-progress", _count=MAX_PATIENTS)
    except GatewayError:
        running = {}
    here = [_subject(resource) for resource in _resources(running) if _inpatient(resource)]
    listed = server.search("Patient", _count=2 * MAX_PATIENTS)
    all_patients = [str(resource.get("id", "")) for resource in _resources(listed)]
    return [identifier for identifier in dict.fromkeys(here + all_patients) if FHIR_ID.match(identifier)]


def _patient(url: str, identifier: str, networks: tuple[str, ...], now: datetime) -> DemoPatient:
    resources, missing = fetch_patient_resources(url, identifier, seconds=CHART_SECONDS, private_networks=networks)
    bundle = {"entry": [{"resource": resource} for resource in resources]}
    cut = f" Not all of it came: {', '.join(sorted(missing))}." if missing else ""
    since = running_since(resources)
    if since is not None and timedelta() <= now - since <= LONGEST_STAY:
        return as_it_is(bundle, f"As it stands on the server.{cut}", "the FHIR server", now)
    story = f"Moved in time: the last stay is shown as the current one.{cut}"
    return as_of_now(bundle, story, "the FHIR server", "end", now)


def _resources(bundle: dict[str, Any]) -> list[Resource]:
    entries = bundle.get("entry")
    found = (entry.get("resource") for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()
    return [resource for resource in found if isinstance(resource, dict)]


def _inpatient(encounter: Resource) -> bool:
    kind = encounter.get("class")
    return isinstance(kind, dict) and kind.get("code") in {"IMP", "ACUTE", "NONAC"}


def _subject(encounter: Resource) -> str:
    subject = encounter.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    kind, _, identifier = str(reference or "").rpartition("/")
    return identifier if kind.rpartition("/")[2] == "Patient" else ""
