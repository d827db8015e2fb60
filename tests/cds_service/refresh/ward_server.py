"""A FHIR server in memory: reads, searches with pages, includes and `_lastUpdated`, conditional updates, faults."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

IGNORED = frozenset({"_sort", "_count", "_include", "_offset"})


@dataclass
class WardServer:
    """Resources by `Type/id`. `faults`: (start of method and query, status, headers), each answered once."""

    url: str = ""
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    now: datetime = datetime(2026, 12, 1, 8, tzinfo=UTC)
    faults: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    includes: bool = True
    sorts: bool = True
    dated: bool = True
    """Whether answers have a `Date`."""
    unknown: tuple[str, ...] = ()
    """Search parameters that are refused."""
    page: int = 1000
    lock: Any = field(default_factory=threading.Lock)

    def clear(self) -> None:
        fresh = WardServer(self.url)
        for name in ("now", "includes", "sorts", "dated", "unknown", "page"):
            setattr(self, name, getattr(fresh, name))
        for kept in (self.resources, self.faults, self.asked):
            kept.clear()

    def put(self, *resources: dict[str, Any], at: datetime | None = None) -> None:
        """Stores a new version of each, stamped with the server's time or `at`."""
        for resource in resources:
            key = f"{resource['resourceType']}/{resource['id']}"
            number = int(self.resources.get(key, {}).get("meta", {}).get("versionId", "0")) + 1
            meta = {**resource.get("meta", {}), "versionId": str(number)}
            meta["lastUpdated"] = (at or self.now).isoformat(timespec="milliseconds")
            self.resources[key] = {**copy.deepcopy(resource), "meta": meta}

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [r for key, r in self.resources.items() if key.startswith(f"{kind}/")]

    def get(self, query: str) -> tuple[int, Any]:
        if "?" not in query:
            found = self.resources.get(query)
            return (200, found) if found else (404, {"resourceType": "OperationOutcome"})
        kind, _, text = query.partition("?")
        asked = parse_qsl(text)
        if any(name in self.unknown or value in self.unknown for name, value in asked):
            return 400, {"resourceType": "OperationOutcome"}
        matches = self.matching(kind, asked)
        given = dict(asked)
        if given.get("_sort") == "_lastUpdated" and self.sorts:
            matches.sort(key=lambda one: one["meta"]["lastUpdated"])
        start, size = int(given.get("_offset", 0)), min(int(given.get("_count", 1000)), self.page)
        shown = matches[start : start + size]
        entries = [{"resource": one, "search": {"mode": "match"}} for one in shown]
        if self.includes and "_include" in given:
            entries += [{"resource": one, "search": {"mode": "include"}} for one in self._included(shown)]
        links = []
        if start + size < len(matches):
            rest = "&".join(f"{n}={v.replace('+', '%2B')}" for n, v in asked if n != "_offset")
            links = [{"relation": "next", "url": f"{self.url}/{kind}?{rest}&_offset={start + size}"}]
        return 200, {
            "resourceType": "Bundle", "type": "searchset", "total": len(matches), "entry": entries, "link": links,
        }  # fmt: skip

    def matching(self, kind: str, asked: list[tuple[str, str]]) -> list[dict[str, Any]]:
        return [one for one in self.of(kind) if all(_fits(one, name, value) for name, value in asked)]

    def _included(self, encounters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        named = [e["subject"]["reference"] for e in encounters]
        named += [at["location"]["reference"] for e in encounters for at in e.get("location", ())]
        for key in dict.fromkeys(named):
            while key and key in self.resources:
                yield self.resources[key]
                key = self.resources[key].get("partOf", {}).get("reference")

    def update(self, place: str, resource: dict[str, Any], if_match: str | None) -> tuple[int, dict[str, str]]:
        with self.lock:
            kind = resource["resourceType"]
            if "?" in place:
                asked = parse_qsl(place.partition("?")[2])
                if any(name in self.unknown for name, _ in asked):
                    return 400, {}
                matches = self.matching(kind, asked)
                if len(matches) > 1:
                    return 412, {}
                identifier = matches[0]["id"] if matches else f"made-{len(self.resources)}"
            else:
                identifier = place.partition("/")[2]
            known = self.resources.get(f"{kind}/{identifier}")
            if if_match is not None and (known is None or if_match != f'W/"{known["meta"]["versionId"]}"'):
                return 412, {}
            self.put({**resource, "id": identifier})
            number = self.resources[f"{kind}/{identifier}"]["meta"]["versionId"]
        headers = {"Location": f"{self.url}/{kind}/{identifier}/_history/{number}", "ETag": f'W/"{number}"'}
        return 200 if known else 201, headers


def _fits(resource: dict[str, Any], name: str, value: str) -> bool:
    if name in IGNORED:
        return True
    if name == "patient":
        subject = resource.get("subject") or resource.get("patient") or {}
        return bool(subject.get("reference") == f"Patient/{value}")
    if name == "category":
        codes = {c.get("code") for item in resource.get("category", ()) for c in item.get("coding", ())}
        return bool(codes & set(value.split(",")))
    if name == "status":
        return resource.get("status") in value.split(",")
    if name == "_lastUpdated":
        return datetime.fromisoformat(resource["meta"]["lastUpdated"]) >= datetime.fromisoformat(value[2:])
    system, _, code = value.partition("|")
    if name == "identifier":
        return {"system": system, "value": code} in resource.get("identifier", [])
    if name == "_tag":
        return {"system": system, "code": code} in resource.get("meta", {}).get("tag", [])
    raise AssertionError(f"the server was asked for {name}")


@contextmanager
def ward_server() -> Iterator[WardServer]:
    state = WardServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = self._query()
            if not self._fault(query):
                self._send(*state.get(query))

        def do_PUT(self) -> None:
            query, body = self._query(), self.rfile.read(int(self.headers["Content-Length"]))
            if not self._fault(query):
                status, headers = state.update(query, json.loads(body), self.headers.get("If-Match"))
                self._send(status, {}, headers)

        def _query(self) -> str:
            parts = urlsplit(self.path)
            path = unquote(parts.path).removeprefix("/fhir/")
            state.asked.append(f"{self.command} {path}?{parts.query}" if parts.query else f"{self.command} {path}")
            return f"{path}?{parts.query}" if parts.query else path

        def _fault(self, query: str) -> bool:
            for fault in state.faults:
                if f"{self.command} {query}".startswith(fault[0]):
                    state.faults.remove(fault)
                    self._send(fault[1], {"resourceType": "OperationOutcome"}, fault[2])
                    return True
            return False

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response_only(status)
            if state.dated:
                self.send_header("Date", format_datetime(state.now, usegmt=True))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/fhir"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def inpatient(name: str, start: datetime, /, **patient: Any) -> list[dict[str, Any]]:
    """A patient with a running inpatient stay, of whom next to nothing is known."""
    subject = {"reference": f"Patient/{name}"}
    born = {"resourceType": "Patient", "id": name, "birthDate": "1950-01-01", "gender": "female"}
    stay = {
        "resourceType": "Encounter",
        "id": f"stay-{name}",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": subject,
        "period": {"start": start.isoformat()},
    }
    return [born | patient, stay]


def sodium(name: str, number: int, at: datetime, value: float = 138.0) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"na-{name}-{number}",
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
        "subject": {"reference": f"Patient/{name}"},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mmol/L"},
    }


DAY = timedelta(days=1)
