"""Clients of the soak: a ward that signs its requests, clients that are slow, and clients that mean harm.

Every request a hospital's EHR would send carries a token of its own (ES384). Hostile ones are sent as they are, over a
bare socket where HTTP itself is what is wrong; each row of `HOSTILE` names the answers it may get, and none is a 5xx
but 503 with Retry-After.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from benchmarks.fuzz import EXAMPLES, requests_of
from benchmarks.serving import body_of_a_megabyte, with_new_notes

ISSUER = "https://ehr.soak.example"
JSON = {"Content-Type": "application/json"}
_GONE = 499  # the client closed before the answer


@dataclass(frozen=True, slots=True)
class Signer:
    """Signer().headers(url) -> {"Authorization": "Bearer ..."}, good for one request."""

    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))

    def client(self) -> dict[str, Any]:
        """The EHR as it stands in the clients file."""
        public = json.loads(ECAlgorithm.to_jwk(self.key.public_key())) | {"kid": "one", "use": "sig"}
        return {"name": "soak", "issuer": ISSUER, "jwks": {"keys": [public]}}

    def headers(self, url: str, **changed: Any) -> dict[str, str]:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": url, "iat": now, "exp": now + 120, "jti": str(uuid.uuid4())} | changed
        token = jwt.encode(claims, self.key, "ES384", {"kid": "one", "typ": "JWT"})
        return {"Authorization": f"Bearer {token}"}


@dataclass(slots=True)
class Seen:
    """What came back: (seconds since the start, kind, status, milliseconds) of each request; 0 is no answer at all."""

    answers: list[tuple[float, str, int, float]] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    slow: int = 0
    again: int = 0
    unexpected: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class SoakWard:
    """SoakWard(base, signer, seed).ask(session, seen, started) sends one request of a random kind."""

    KINDS = (("known", 36), ("small", 24), ("unseen", 5), ("feedback", 12), ("get", 11), ("hostile", 12))

    def __init__(self, base: str, signer: Signer, seed: int) -> None:
        self._base = base
        self._signer = signer
        self._chance = random.Random(seed)
        self._large = body_of_a_megabyte()
        self._charts = requests_of(EXAMPLES)

    def ask(self, session: requests.Session, seen: Seen, started: float) -> None:
        with seen.lock:
            kind = self._chance.choices([k for k, _ in self.KINDS], [weight for _, weight in self.KINDS])[0]
            seed = self._chance.randrange(2**31)
        begun = time.monotonic()
        status = self._asked(kind, seed, session, seen)
        if not status:  # kept open too long for the server: asked again on a new connection, as browsers do
            session.close()
            seen.again += 1
            status = self._asked(kind, seed, session, seen)
        with seen.lock:
            seen.answers.append((begun - started, kind, status, (time.monotonic() - begun) * 1000))

    def _asked(self, kind: str, seed: int, session: requests.Session, seen: Seen) -> int:
        """The status of the request of a kind and a seed; 0 when none came."""
        try:
            return int(getattr(self, f"_{kind}")(session, random.Random(seed), seen))
        except (requests.RequestException, OSError):
            return 0

    def _post(self, session: requests.Session, path: str, body: bytes) -> requests.Response:
        url = f"{self._base}/cds-services/{path}"
        return session.post(url, data=body, headers=JSON | self._signer.headers(url), timeout=60)

    def _hook(self, session: requests.Session, seen: Seen, service: str, request: Mapping[str, Any]) -> int:
        body = json.dumps({**request, "hookInstance": str(uuid.uuid4())}).encode()
        answer = self._post(session, service, body)
        if answer.status_code == 200:
            cards = [f"{service} {card['uuid']}" for card in answer.json()["cards"]]
            with seen.lock:
                seen.cards = [*seen.cards[-200:], *cards]
                seen.shown.update(cards)
        return answer.status_code

    def _known(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        request = json.loads(self._large)
        request["prefetch"]["patient"]["multipleBirthInteger"] = chance.randrange(40)  # forty charts of a megabyte
        return self._hook(session, seen, "hospital-risk", request)

    def _small(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        return self._hook(session, seen, *chance.choice(self._charts))

    def _unseen(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        body = with_new_notes(self._large, chance.randrange(2**31))
        return self._hook(session, seen, "hospital-risk", json.loads(body))

    def _feedback(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        with seen.lock:
            cards = list(seen.cards)
        if not cards:
            return self._get(session, chance, seen)
        service, card = chance.choice(cards).split()
        at = f"2026-01-01T00:{chance.randrange(60):02}:{chance.randrange(60):02}Z"
        entry = {"card": card, "outcome": "overridden", "outcomeTimestamp": at}
        answer = self._post(session, f"{service}/feedback", json.dumps({"feedback": [entry]}).encode())
        if answer.status_code == 200:
            with seen.lock:
                seen.acknowledged.add((card, at))
        return answer.status_code

    def _get(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        path = chance.choice(("/cds-services", "/health/live", "/health/ready", "/metrics", "/openapi.json"))
        url = f"{self._base}{path}"
        return session.get(url, headers=self._signer.headers(url), timeout=60).status_code

    def _hostile(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        service, request = chance.choice(self._charts)
        name = chance.choice(sorted(HOSTILE))
        allowed = HOSTILE[name]
        status = _attack(name, self._base, service, request, self._signer, session)
        if status not in allowed:
            with seen.lock:
                seen.unexpected.append(f"{name}: {status}")
        return status


# Name of the attack -> the answers it may get. 503 is a service that is busy and says when to come back.
HOSTILE: Mapping[str, frozenset[int]] = {
    "cut off in the middle of its body": frozenset({_GONE}),
    "half a JSON document": frozenset({400, 503}),
    "five thousand brackets": frozenset({400, 503}),
    "eleven megabytes": frozenset({413, 503}),
    # 200 where the service is switched off just then: it answers no cards and reads nothing.
    "another patient's chart mixed in": frozenset({200, 400, 412, 503}),
    "NaN for a number": frozenset({400, 503}),
    "a member named twice": frozenset({400, 503}),
    "a note of nested tags": frozenset({200, 503}),
    "markup and bidirectional marks in a note": frozenset({200, 503}),
    "no token": frozenset({401, 503}),
    "a token used twice": frozenset({401, 503}),
    "a token of nobody's key": frozenset({401, 503}),
    "a server that is not on the list": frozenset({200, 412, 503}),
    "no such service": frozenset({404, 503}),
    "bytes that are no HTTP": frozenset({400}),
    "two lengths of one body": frozenset({400}),
    "a header of a hundred kilobytes": frozenset({400, 431}),
}


def _attack(
    name: str, base: str, service: str, request: Mapping[str, Any], signer: Signer, session: requests.Session
) -> int:
    url = f"{base}/cds-services/{service}"
    whole = json.dumps(request).encode()
    bare = {
        "cut off in the middle of its body": _head(url, signer, len(whole)) + whole[: len(whole) // 2],
        "bytes that are no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "two lengths of one body": _head(url, signer, 4).replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n{}{}"),
        "a header of a hundred kilobytes": _head(url, signer, 0, f"X-Long: {'x' * 100_000}\r\n"),
    }
    if name in bare:
        return _bare(base, bare[name], wait=not name.startswith("cut off"))
    if name == "no such service":
        url = f"{base}/cds-services/no-such-service"
    headers = JSON | signer.headers(url)
    if name == "no token":
        headers = JSON
    elif name == "a token of nobody's key":
        headers = JSON | Signer().headers(url)
    elif name == "a token used twice":
        session.post(url, data=b"{}", headers=headers, timeout=60)
    return session.post(url, data=_body(name, request, whole), headers=headers, timeout=60).status_code


def _body(name: str, request: Mapping[str, Any], whole: bytes) -> bytes:
    nested = "<div>" * 60_000
    marks = "\u202e\u200b![x](http://evil.example/p)<script>alert(1)</script>[a](javascript:b)"
    bodies = {
        "half a JSON document": lambda: whole[: len(whole) // 2],
        "five thousand brackets": lambda: b"[" * 5000,
        "eleven megabytes": lambda: b"x" * 11_000_000,
        "another patient's chart mixed in": lambda: whole.replace(b"Patient/", b"Patient/x", 3),
        "NaN for a number": lambda: whole[:-1] + b', "extension": NaN}',
        "a member named twice": lambda: whole[:-1] + b', "hook": "patient-view"}',
        "a note of nested tags": lambda: _with_note(request, "text/html", nested),
        "markup and bidirectional marks in a note": lambda: _with_note(request, "text/plain", marks),
        "a server that is not on the list": lambda: json.dumps(
            {
                **request,
                "fhirServer": "http://169.254.169.254/latest",
                "fhirAuthorization": {"access_token": "t", "token_type": "Bearer", "expires_in": 60, "scope": "x"},
                "prefetch": {**request["prefetch"], "labs": None},
            }
        ).encode(),
    }
    return bodies[name]() if name in bodies else whole


def _with_note(request: Mapping[str, Any], kind: str, text: str) -> bytes:
    patient = request["context"]["patientId"]
    note = {
        "resourceType": "DocumentReference",
        "id": "hostile",
        "status": "current",
        "subject": {"reference": f"Patient/{patient}"},
        "date": "2020-01-01T00:00:00Z",
        "content": [{"attachment": {"contentType": kind, "data": base64.b64encode(text.encode()).decode()}}],
    }
    documents = request["prefetch"].get("documents") or {"resourceType": "Bundle", "type": "searchset"}
    entry = [*documents.get("entry", ()), {"resource": note}]
    return json.dumps(
        {**request, "prefetch": {**request["prefetch"], "documents": {**documents, "entry": entry}}}
    ).encode()


def _head(url: str, signer: Signer, length: int, more: str = "") -> bytes:
    path = "/" + url.split("/", 3)[3]
    token = signer.headers(url)["Authorization"]
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: {token}\r\n{more}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def _connected(base: str) -> socket.socket:
    host, port = base.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def _bare(base: str, data: bytes, *, wait: bool) -> int:
    """The status that bytes over a bare socket are answered with; 0 when the door is shut without a word."""
    with _connected(base) as connection:
        try:
            connection.sendall(data)
            if not wait:
                return _GONE
            answer = connection.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            return 400  # it was refused before it was sent
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def drip(base: str, signer: Signer, seen: Seen, stopped: threading.Event, seed: int) -> None:
    """A client that never hurries: headers or a body, a byte a second, until it is shut out; then once more."""
    chance = random.Random(seed)
    url = f"{base}/cds-services/hospital-risk"
    while not stopped.is_set():
        data = _head(url, signer, 100_000) + b"{" * 100
        start = 0 if chance.random() < 0.5 else data.index(b"\r\n\r\n") + 4
        try:
            with _connected(base) as connection:
                connection.sendall(data[:start])
                for byte in data[start:]:
                    connection.sendall(bytes([byte]))
                    if stopped.wait(1.0):
                        return
        except OSError:
            pass
        seen.slow += 1
        stopped.wait(chance.uniform(1, 5))
