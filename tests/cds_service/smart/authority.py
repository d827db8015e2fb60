"""An EHR for launches: authorization server and FHIR server in one, strict where the standard is, wrong where told to.

    ehr = Realm(...); ehr.wrong = {"id_token": {"nonce": "another"}}

Realms of one server differ in how the app is registered there. The app's side of each exchange is checked as a real
server would: PKCE, redirect URI, `aud`, one use of a code, the client's credential.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from cds_service.demo.ward.chart import Chart, ChartError
from tests.patience import PATIENT

REDIRECT = "https://cds.example.org/smart/callback"
CLIENT_ID = "riskcards app"  # with a space: Basic credentials are form-encoded first
SECRET = "canary-secret+/% of ours"
# launch parameter -> launch context
LAUNCHES: Mapping[str, Mapping[str, Any]] = {
    "for-walter": {"patient": "walter", "encounter": "stay"},
    "for-ines": {"patient": "ines", "encounter": "stay"},
    "for-nobody": {},
    "for-the-ward": {},
}


class RefusedError(Exception):
    """An OAuth error of the token endpoint."""


@dataclass
class Realm:
    """One FHIR base and the authorization server before it."""

    origin: str
    name: str
    charts: Mapping[str, Chart]
    # The app's published keys; asked for anew with each assertion, as `jwks_uri` of a registration is.
    client_keys: Callable[[], Mapping[str, Any]] = dict
    key: Any = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    wrong: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)  # access token -> patient
    refreshes: dict[str, str] = field(default_factory=dict)  # refresh token -> patient
    seen_assertions: set[str] = field(default_factory=set)
    token_requests: list[dict[str, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path and query, bearer token)
    polls: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @property
    def base(self) -> str:
        return f"{self.origin}/{self.name}/fhir"

    @property
    def issuer(self) -> str:
        return f"{self.origin}/{self.name}"

    def reset(self) -> None:
        for memory in (self.wrong, self.codes, self.tokens, self.refreshes, self.token_requests, self.asked):
            memory.clear()

    def configuration(self) -> dict[str, Any]:
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"/{self.name}/token",
            "jwks_uri": "../jwks",
            "capabilities": ["launch-ehr", "launch-standalone", "sso-openid-connect", "permission-v2"],
            "scopes_supported": ["openid", "fhirUser", "online_access", "patient/*.rs"],
            "code_challenge_methods_supported": ["S256"],
        }
        return _changed(found, self.wrong.get("configuration"))

    def jwks(self) -> dict[str, Any]:
        own = _jwk(self.key) | {"kid": "server-key"}
        others = [_jwk(key) | {"kid": f"other-{n}"} for n, key in enumerate(self.wrong.get("more_keys", ()))]
        if self.wrong.get("unnamed_keys"):
            own.pop("kid")
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg"}, own, *others]}

    def authorize(self, location: str) -> dict[str, str]:
        """What the browser would bring back, after a clinician has logged in and said yes."""
        asked = dict(parse_qsl(urlsplit(location).query, strict_parsing=True))
        assert location.startswith(f"{self.issuer}/authorize?"), location
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["redirect_uri"] == REDIRECT
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["code_challenge"]) == 43
        assert len(asked["state"]) >= 22, "at least 128 bits"
        assert asked["aud"] == self.base
        code = f"canary-code-{secrets.token_urlsafe(16)}"
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return _changed(back, self.wrong.get("callback"))

    def token(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        with self.lock:
            self.token_requests.append(form)
        self._authenticate(headers, form)
        if form["grant_type"] == "client_credentials":
            return _changed(self._answer("", form["scope"]), self.wrong.get("token"))
        if form["grant_type"] == "refresh_token":
            with self.lock:
                patient = self.refreshes.pop(form["refresh_token"], None)
            if patient is None:
                raise RefusedError("invalid_grant")
            answer = self._answer(patient, "patient/*.rs") | {"patient": patient}
            return _changed(answer, self.wrong.get("refresh"))
        with self.lock:
            asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            raise RefusedError("invalid_grant")
        if _challenge(form["code_verifier"]) != asked["code_challenge"]:
            raise RefusedError("invalid_grant")
        context = LAUNCHES[asked.get("launch", "for-walter")]
        answer = self._answer(context.get("patient", ""), asked["scope"]) | context
        if "openid" in asked["scope"].split():
            answer["id_token"] = self.id_token(asked.get("nonce"))
        return _changed(answer, self.wrong.get("token"))

    def _answer(self, patient: str, scope: str) -> dict[str, Any]:
        token = f"canary-token-{secrets.token_urlsafe(16)}"
        with self.lock:
            self.tokens[token] = patient
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope}
        if "online_access" in scope.split() or self.wrong.get("refresh_token"):
            refresh = f"canary-refresh-{secrets.token_urlsafe(16)}"
            self.refreshes[refresh] = patient
            answer["refresh_token"] = refresh
        return answer

    def id_token(self, nonce: str | None) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "7",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "fhirUser": f"{self.base}/Practitioner/7",
        }
        claims = _changed(claims, self.wrong.get("id_token"))
        how = {"algorithm": "RS256", "kid": "server-key", "key": self.key} | self.wrong.get("signing", {})
        headers = {"kid": how["kid"]} if how["kid"] else {}
        return jwt.encode(claims, how["key"], algorithm=how["algorithm"], headers=headers)

    def _authenticate(self, headers: Mapping[str, str], form: Mapping[str, str]) -> None:
        if self.name == "public":
            good = form.get("client_id") == CLIENT_ID and "client_assertion" not in form
        elif self.name == "symmetric":
            user, _, password = base64.b64decode(headers["Authorization"].partition(" ")[2]).decode().partition(":")
            good = (unquote_plus(user), unquote_plus(password)) == (CLIENT_ID, SECRET)
        else:
            good = self._assertion(form)
        if not good:
            raise RefusedError("invalid_client")

    def _assertion(self, form: Mapping[str, str]) -> bool:
        assertion = form["client_assertion"]
        header = jwt.get_unverified_header(assertion)
        keys = [key for key in self.client_keys()["keys"] if key["kid"] == header["kid"]]
        expected = {"asymmetric": "ES384", "rsa": "RS384"}[self.name]
        if header["alg"] != expected or len(keys) != 1 or "d" in keys[0]:
            return False
        claims = jwt.decode(
            assertion, jwt.PyJWK(keys[0]).key, algorithms=[expected], audience=f"{self.issuer}/token", issuer=CLIENT_ID,
            options={"require": ["iss", "sub", "aud", "exp", "jti"]},
        )  # fmt: skip
        fresh = claims["jti"] not in self.seen_assertions and claims["exp"] - time.time() <= 300
        self.seen_assertions.add(claims["jti"])
        return fresh and claims["sub"] == CLIENT_ID and form["client_assertion_type"].endswith(":jwt-bearer")

    def read(self, query: str, authorization: str | None) -> tuple[int, Any]:
        """A FHIR read or search, only of the token's own patient."""
        token = (authorization or "").removeprefix("Bearer ")
        self.asked.append((query, token))
        if token not in self.tokens or token in self.wrong.get("revoked", ()):
            return 401, {"resourceType": "OperationOutcome"}
        kind = query.partition("?")[0].partition("/")[0]
        if kind in self.wrong.get("forbidden", ()):
            return 403, {"resourceType": "OperationOutcome"}
        if "fhir_behind" in self.wrong:
            return _fetched("GET", self.wrong["fhir_behind"], query, self.base)[:2]
        patient = self.tokens[token] or dict(parse_qsl(query.partition("?")[2])).get("patient") or query.split("/")[-1]
        try:
            found = self.charts[patient].query(query)
        except (ChartError, KeyError):
            return 400, {"resourceType": "OperationOutcome"}
        if found is None or (f"patient={patient}" not in query and "?" in query):
            return 404, {"resourceType": "OperationOutcome"}
        if self.wrong.get("includes_nothing") and "entry" in found:
            found["entry"] = [entry for entry in found["entry"] if entry["search"]["mode"] == "match"]
        stray = self.wrong.get("slipped_in")
        if stray and stray["resourceType"] == kind:
            found["entry"].append({"resource": stray, "search": {"mode": "match"}})
        return 200, found

    def export(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        """Bulk Data: kick-off, two times not ready, the list, the files."""
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        self.asked.append((path, token))
        reported = self.wrong.get("export", {})
        if token not in self.tokens or self.tokens[token]:
            return 401, {}, {}
        if "$export" in path:
            assert headers["Prefer"] == "respond-async"
            self.polls = 0
            return reported.get("kick-off", 202), {}, {"Content-Location": reported.get("status", "export/status")}
        if path == "export/status":
            self.polls += 1
            if self.polls < 3:
                return reported.get("waiting", 202), {}, {"Retry-After": "0", "X-Progress": "half"}
            kinds = sorted({each["resourceType"] for chart in self.charts.values() for each in chart.resources})
            files = [{"type": kind, "url": f"{self.base}/export/{kind}"} for kind in kinds]
            manifest = {"requiresAccessToken": True, "output": files, "error": []}
            return 200, _changed(manifest, reported.get("manifest")), {}
        kind = path.rpartition("/")[2]
        lines = [each for chart in self.charts.values() for each in chart.resources if each["resourceType"] == kind]
        return reported.get("file", 200), "\n".join(map(json.dumps, lines)).encode(), {}


def start(charts: Mapping[str, Chart]) -> tuple[dict[str, Realm], ThreadingHTTPServer]:
    """A server with one realm for each way of being registered."""
    realms: dict[str, Realm] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, name, rest = self.path.split("/", 2)
            realm = realms[name]
            if rest == "fhir/.well-known/smart-configuration":
                self._send(*realm.wrong.get("discovery_answer", (200, realm.configuration())))
            elif rest.startswith("authorize?"):
                back = realm.authorize(f"{realm.issuer}/{rest}")
                self._send(302, b"", {"Location": f"{REDIRECT}?{urlencode(back)}"})
            elif rest == ".well-known/openid-configuration":
                self._send(200, {"issuer": realm.issuer, "jwks_uri": f"{realm.issuer}/jwks"})
            elif rest == "jwks":
                self._send(200, realm.jwks())
            elif "$export" in rest or rest.startswith("fhir/export/"):
                self._send(*realm.export(rest.removeprefix("fhir/"), dict(self.headers)))
            elif rest == "style.json":
                self._send(200, realm.wrong.get("style", {"color_background": "#edeae3", "evil": "</style>"}))
            elif "ward_behind" in realm.wrong:
                self._send(*self._behind(realm, rest.removeprefix("fhir/")))
            else:
                self._send(*realm.read(rest.removeprefix("fhir/"), self.headers.get("Authorization")))

        def do_PUT(self) -> None:
            _, name, rest = self.path.split("/", 2)
            self._send(*self._behind(realms[name], rest.removeprefix("fhir/")))

        def _behind(self, realm: Realm, query: str) -> tuple[int, Any, dict[str, str]]:
            """The answer of the server behind, headers included, to whoever has a token."""
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            realm.asked.append((f"{self.command} {query}" if self.command == "PUT" else query, token))
            if token not in realm.tokens or token in realm.wrong.get("revoked", ()):
                return 401, {"resourceType": "OperationOutcome"}, {}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return _fetched(self.command, realm.wrong["ward_behind"], query, realm.base, dict(self.headers), body)

        def do_POST(self) -> None:
            realm = realms[self.path.split("/")[1]]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "token_held" in realm.wrong:
                arrived, over = realm.wrong["token_held"]
                arrived.set()
                over.wait()  # whoever asked has given up: nothing of it may reach a later test
                return
            try:
                status, answer = realm.wrong.get("token_status", 200), realm.token(dict(self.headers), body)
            except RefusedError as error:
                status, answer = 400, {"error": str(error)}
            self._send(status, answer)

        def do_DELETE(self) -> None:
            realm = realms[self.path.split("/")[1]]
            realm.asked.append((f"DELETE {self.path}", self.headers.get("Authorization", "")))
            self._send(202, {})

        def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            given = {name.lower() for name in headers or {}}
            self.send_response_only(status)
            if "date" not in given:
                self.send_header("Date", self.date_time_string())
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    origin = f"http://127.0.0.1:{server.server_port}"
    realms.update({name: Realm(origin, name, charts) for name in ("public", "symmetric", "asymmetric", "rsa")})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return realms, server


def _fetched(
    method: str, behind: str, query: str, base: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> tuple[int, Any, dict[str, str]]:
    """The answer of the FHIR server that stands behind this authorization server, under this server's address."""
    passed = {n: v for n, v in (headers or {}).items() if n.lower() in {"if-match", "prefer", "content-type"}}
    passed["Accept"] = "application/fhir+json"
    answer = requests.request(method, f"{behind}/{query}", headers=passed, data=body or None, timeout=PATIENT)
    shown = {
        name: value.replace(behind, base)
        for name, value in answer.headers.items()
        if name.lower() in {"retry-after", "location", "etag", "date"}
    }
    return answer.status_code, answer.content.replace(behind.encode(), base.encode()), shown


def _changed(given: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Ellipsis takes a member out."""
    return {name: value for name, value in {**given, **(changes or {})}.items() if value is not ...}


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _jwk(key: Any) -> dict[str, Any]:
    return dict(json.loads(RSAAlgorithm.to_jwk(key.public_key())))


def new_ec_pem() -> bytes:
    return pem(ec.generate_private_key(ec.SECP384R1()))


def new_rsa_pem() -> bytes:
    return pem(rsa.generate_private_key(65537, 2048))


def pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
