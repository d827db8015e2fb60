"""One way to read a chart, in a process of its own: `python mapping_way.py WAY KIND FILE`, KIND `bundle` or `hook`.

Each line on standard input runs json.loads and the way once, in turn first and second, and answers with both times in
seconds; the line `memory` answers with the bytes by which the peak of the process grew during one run. Nothing but the
way's own library is imported, so that peers run in their own environment.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Way = Callable[[bytes, str], Any]
PATIENT = {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01"}
TINY = {
    "bundle": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}]},
    "hook": {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/x", "patientId": "p"},
        "prefetch": {"patient": PATIENT},
    },
}
AS_OF = "2035-01-01T00:00:00Z"


def documents(value: Any, kind: str) -> list[dict[str, Any]]:
    """The Bundles and resources of an input."""
    return [value] if kind == "bundle" else [v for v in value["prefetch"].values() if v]


def ours() -> Way:
    """A hook body as the service reads it: parted, checked strictly, its prefetch mapped."""
    from cds_hooks import ReceivedRequest
    from cds_service.hooks.prefetch_parsing import parse_prefetch
    from cds_service.services import SERVICES
    from fhir_mapping import PatientRecord
    from fhir_mapping.core import moment, parse_instant

    instant, service = parse_instant(AS_OF), SERVICES["hospital-risk"]
    assert instant is not None

    def read(raw: bytes, kind: str) -> Any:
        if kind == "bundle":
            record = PatientRecord.from_json(raw)
        else:
            request = ReceivedRequest(service, raw).open().read_prefetch(parse_prefetch)
            record = PatientRecord.from_prefetch(
                request.prefetch,
                patient_id=request.patient_id,
                prediction_time=moment(instant),
                expected=service.expected(),
            )
        return record.features(), record.notes()

    return read


def json_loads() -> Way:
    return lambda raw, kind: json.loads(raw)


def orjson_loads() -> Way:
    import orjson

    return lambda raw, kind: orjson.loads(raw)


def fhir_resources() -> Way:
    from fhir.resources.R4B import get_fhir_model_class

    def read(raw: bytes, kind: str) -> Any:
        found = documents(json.loads(raw), kind)
        return [get_fhir_model_class(item["resourceType"]).model_validate(item) for item in found]

    return read


def fhirclient() -> Way:
    from fhirclient.models import fhirelementfactory

    def read(raw: bytes, kind: str) -> Any:
        factory = fhirelementfactory.FHIRElementFactory
        return [factory.instantiate(item["resourceType"], item) for item in documents(json.loads(raw), kind)]

    return read


def healthchain() -> Way:
    import warnings

    warnings.simplefilter("ignore")
    from healthchain.fhir import convert_prefetch_to_fhir_objects, load_bundle

    def read(raw: bytes, kind: str) -> Any:
        value = json.loads(raw)
        return load_bundle(value) if kind == "bundle" else convert_prefetch_to_fhir_objects(value["prefetch"])

    return read


def fhirkit_rs() -> Way:
    import fhirkit

    def read(raw: bytes, kind: str) -> Any:
        if kind == "bundle":
            return fhirkit.parse(raw)
        return [fhirkit.parse(item) for item in documents(json.loads(raw), kind)]

    return read


WAYS = {
    "json.loads": json_loads,
    "orjson.loads": orjson_loads,
    "riskcards": ours,
    "fhirkit-rs": fhirkit_rs,
    "fhirclient": fhirclient,
    "fhir.resources": fhir_resources,
    "HealthChain": healthchain,
}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def _grown(read: Way, raw: bytes, kind: str) -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew here
    before = _status("VmRSS")
    read(raw, kind)
    return _status("VmHWM") - before


def main() -> None:
    name, kind, path = sys.argv[1:]
    read = WAYS[name]()
    raw = Path(path).read_bytes()
    read(json.dumps(TINY[kind]).encode(), kind)
    print("ready", flush=True)
    number = 0
    for line in sys.stdin:
        if line.strip() == "memory":
            print(_grown(read, raw, kind), flush=True)
            continue
        number += 1
        first, second = (json_loads(), read) if number % 2 else (read, json_loads())
        times = _timed(first, raw, kind), _timed(second, raw, kind)
        print(*(times if number % 2 else times[::-1]), flush=True)


def _timed(read: Way, raw: bytes, kind: str) -> float:
    gc.collect()
    started = time.perf_counter()
    read(raw, kind)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
