"""Tokens as an attacker would make them, against the verifier and against the service over HTTP.

The attacker knows the issuer's name, its public keys and its key URL, may have seen tokens of others, and has own keys.
Every such token is a cheap 401, never a 500, and never causes a request to a URL in the token.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

from cds_hooks import FetchedKeys
from cds_hooks.errors import TokenRefusedError
from cds_service.access import client_keys as trust_keys
from cds_service.access.client_keys import MAX_JWKS_BYTES, jwks_fetcher
from cds_service.access.clients import ClientsFile
from cds_service.access.tokens import TokenVerifier
from cds_service.application.factory import create_app
from cds_service.net.outbound import OutboundError, OutboundResponse
from cds_service.store.store import Store
from risk_model import Pipeline
from tests.cds_service.access.ehr import PUBLIC, Ehr
from tests.patience import LIMITS, PATIENT, patient_settings, until

URL = f"{PUBLIC}/cds-services"
JWKS_URL = "https://ehr.example.org/keys"
EHR = Ehr()
MINE = Ehr(issuer="https://mine.example")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(
    header: dict[str, Any] | str, claims: dict[str, Any] | str, key: Any = None, algorithm: str = "ES384"
) -> str:
    """A token of exactly these bytes, signed with the attacker's key, or with the one given."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    signed = ".".join(b64(part.encode("utf-8", "surrogatepass")) for part in parts)
    signer = HMACAlgorithm(HMACAlgorithm.SHA384) if algorithm == "HS384" else jwt.get_algorithm_by_name(algorithm)
    return f"{signed}.{b64(signer.sign(signed.encode(), key or MINE.ec_key))}"


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


HEAD = {"alg": "ES384", "typ": "JWT", "kid": "ec-1"}
SMALL = rsa.generate_private_key(65537, 1024)
OWN = json.loads(ECAlgorithm.to_jwk(MINE.ec_key.public_key())) | {"kid": "mine"}


def text(claims: dict[str, Any], more: str) -> str:
    return json.dumps(claims)[:-1] + f", {more}}}"


# name -> the token; each is refused.
TOKENS: dict[str, Callable[[], str]] = {
    "alg none, without a signature": lambda: (
        f"{b64(json.dumps(HEAD | {'alg': 'none'}).encode())}.{b64(json.dumps(EHR.claims(URL)).encode())}."
    ),
    "alg None in capitals": lambda: forged(HEAD | {"alg": "NONE"}, EHR.claims(URL)),
    "alg missing": lambda: forged({"typ": "JWT", "kid": "ec-1"}, EHR.claims(URL), EHR.ec_key),
    "alg a list": lambda: forged(HEAD | {"alg": ["ES384", "none"]}, EHR.claims(URL), EHR.ec_key),
    "HS384 with the public key as PEM": lambda: forged(
        HEAD | {"alg": "HS384"}, EHR.claims(URL), pem(EHR.ec_key), "HS384"
    ),
    "HS384 with the public RSA key": lambda: forged(
        HEAD | {"alg": "HS384", "kid": "rsa-1"}, EHR.claims(URL), pem(EHR.rsa_key), "HS384"
    ),
    "HS384 with the key set itself": lambda: forged(
        HEAD | {"alg": "HS384"}, EHR.claims(URL), json.dumps(EHR.jwks()).encode(), "HS384"
    ),
    "ES256, another curve than the key's": lambda: forged(
        HEAD | {"alg": "ES256"}, EHR.claims(URL), ec.generate_private_key(ec.SECP256R1()), "ES256"
    ),
    "ES384 by a key of P-256": lambda: (
        forged(HEAD, EHR.claims(URL), EHR.ec_key).rpartition(".")[0] + "." + b64(b"\x01" * 64)
    ),
    "RS384 said of the EC key": lambda: forged(HEAD | {"alg": "RS384"}, EHR.claims(URL), EHR.rsa_key, "RS384"),
    "RS256, not allowed for this client": lambda: forged(
        HEAD | {"alg": "RS256", "kid": "rsa-1"}, EHR.claims(URL), EHR.rsa_key, "RS256"
    ),
    "PS384 by the RSA key": lambda: forged(
        HEAD | {"alg": "PS384", "kid": "rsa-1"}, EHR.claims(URL), EHR.rsa_key, "PS384"
    ),
    "RSA of 1024 bits": lambda: forged(HEAD | {"alg": "RS384", "kid": "small"}, EHR.claims(URL), SMALL, "RS384"),
    "a signature of zeros": lambda: (
        forged(HEAD, EHR.claims(URL), EHR.ec_key).rpartition(".")[0] + "." + b64(b"\0" * 96)
    ),
    "kid a path": lambda: forged(HEAD | {"kid": "../../../../dev/null"}, EHR.claims(URL), b"\0" * 48, "HS384"),
    "kid an address": lambda: forged(HEAD | {"kid": "https://mine.example/keys#mine"}, EHR.claims(URL)),
    "kid that speaks SQL": lambda: forged(HEAD | {"kid": "x' UNION SELECT 'k"}, EHR.claims(URL)),
    "kid with a zero byte": lambda: forged(HEAD | {"kid": "ec-1\u0000"}, EHR.claims(URL), EHR.ec_key),
    "kid a number": lambda: forged(HEAD | {"kid": 1}, EHR.claims(URL), EHR.ec_key),
    "kid an object": lambda: forged(HEAD | {"kid": {"$ne": ""}}, EHR.claims(URL), EHR.ec_key),
    "jku of the attacker": lambda: forged(HEAD | {"jku": "https://mine.example/keys", "kid": "mine"}, EHR.claims(URL)),
    "jku that only begins like ours": lambda: forged(HEAD | {"jku": f"{JWKS_URL}.mine.example"}, EHR.claims(URL)),
    "jku with a lone surrogate": lambda: forged(json.dumps(HEAD | {"jku": "\ud800"}), EHR.claims(URL), EHR.ec_key),
    "jku a list": lambda: forged(HEAD | {"jku": [JWKS_URL]}, EHR.claims(URL), EHR.ec_key),
    "x5u of the attacker": lambda: forged(HEAD | {"x5u": "https://mine.example/c.pem"}, EHR.claims(URL)),
    "x5c of the attacker": lambda: forged(HEAD | {"x5c": [b64(b"certificate")]}, EHR.claims(URL)),
    "jwk of the attacker": lambda: forged(HEAD | {"jwk": OWN, "kid": "mine"}, EHR.claims(URL)),
    "jwk of the attacker under a true kid": lambda: forged(HEAD | {"jwk": OWN}, EHR.claims(URL)),
    "crit with what we do not know": lambda: forged(HEAD | {"crit": ["exp"]}, EHR.claims(URL), EHR.ec_key),
    "crit, empty": lambda: forged(HEAD | {"crit": []}, EHR.claims(URL), EHR.ec_key),
    "b64 false": lambda: forged(HEAD | {"crit": ["b64"], "b64": False}, EHR.claims(URL), EHR.ec_key),
    "compressed": lambda: forged(HEAD | {"zip": "DEF"}, EHR.claims(URL), EHR.ec_key),
    "typ of an access token": lambda: forged(HEAD | {"typ": "at+jwt"}, EHR.claims(URL), EHR.ec_key),
    "typ missing": lambda: forged({"alg": "ES384", "kid": "ec-1"}, EHR.claims(URL), EHR.ec_key),
    "typ a list": lambda: forged(HEAD | {"typ": ["JWT"]}, EHR.claims(URL), EHR.ec_key),
    "alg twice": lambda: forged(text(HEAD, '"alg": "ES384"'), EHR.claims(URL), EHR.ec_key),
    "a claim twice, the second true": lambda: forged(
        HEAD, text(EHR.claims(URL, iss="https://mine.example"), f'"iss": "{EHR.issuer}"'), EHR.ec_key
    ),
    "jti twice": lambda: forged(HEAD, text(EHR.claims(URL), '"jti": "again"'), EHR.ec_key),
    "claims a list": lambda: forged(HEAD, "[1]", EHR.ec_key),
    "claims NaN": lambda: forged(HEAD, text(EHR.claims(URL), '"x": NaN'), EHR.ec_key),
    "claims 600 deep": lambda: forged(HEAD, text(EHR.claims(URL), f'"x": {"[" * 600}{"]" * 600}'), EHR.ec_key),
    "header 3,000 deep": lambda: forged("[" * 3000, EHR.claims(URL), EHR.ec_key),
    "header not UTF-8": lambda: f"{b64(bytes([255, 254]))}.{b64(b'{}')}.{b64(b'x')}",
    "claims with a lone surrogate": lambda: forged(HEAD, EHR.claims("\ud800"), EHR.ec_key),
    "aud a list without us": lambda: EHR.token(URL, aud=["https://a.example", "https://b.example"]),
    "aud a list of lists": lambda: EHR.token(URL, aud=[[URL]]),
    "aud an object": lambda: EHR.token(URL, aud={URL: True}),
    "aud an empty list": lambda: EHR.token(URL, aud=[]),
    "aud with a trailing slash": lambda: EHR.token(f"{URL}/"),
    "aud in capitals": lambda: EHR.token(URL.upper()),
    "aud with a query": lambda: EHR.token(f"{URL}?x=1"),
    "aud a prefix of ours": lambda: EHR.token(URL[:-1]),
    "issued a minute and a half from now": lambda: EHR.token(
        URL, iat=int(time.time()) + 90, exp=int(time.time()) + 120
    ),
    "good for an hour": lambda: EHR.token(URL, exp=int(time.time()) + 3600),
    "good until the year 36,000": lambda: EHR.token(URL, exp=2**40 - 1),
    "exp beyond any clock": lambda: forged(HEAD, EHR.claims(URL, exp=10**400), EHR.ec_key),
    "exp negative": lambda: forged(HEAD, EHR.claims(URL, iat=-200, exp=-100), EHR.ec_key),
    "exp 1e3": lambda: forged(HEAD, text(EHR.claims(URL, exp=...), '"exp": 1e10'), EHR.ec_key),
    "iat true": lambda: forged(HEAD, EHR.claims(URL, iat=True), EHR.ec_key),
    "issuer in a list": lambda: forged(HEAD, EHR.claims(URL, iss=[EHR.issuer]), EHR.ec_key),
    "issuer the attacker's own": lambda: MINE.token(URL),
    "issuer's name, attacker's key": lambda: EHR.token(URL, key=MINE.ec_key),
    "jti of spaces and ends of lines": lambda: forged(HEAD, EHR.claims(URL, jti=["a"]), EHR.ec_key),
}
# Authorization headers with a valid token that are refused all the same.
AROUND: dict[str, Callable[[str], str]] = {
    "padding": lambda token: f"Bearer {token}==",
    "padding inside": lambda token: "Bearer " + token.replace(".", "==.", 1),
    "an end of line inside": lambda token: "Bearer " + token.replace(".", ".\n", 1),
    "a space inside": lambda token: "Bearer " + token.replace(".", ". ", 1),
    "a tab behind": lambda token: f"Bearer {token}\t",
    "standard base64": lambda token: "Bearer " + token + "+/",
    "a fourth part": lambda token: f"Bearer {token}.e30",
    "two tokens in one header": lambda token: f"Bearer {token}, Bearer {token}",
    "two headers, as a server joins them": lambda token: f"Bearer {token},Bearer x",
    "another scheme": lambda token: f"DPoP {token}",
    "no scheme": lambda token: token,
    "the scheme and no space": lambda token: f"Bearer{token}",
    "eight kilobytes and one": lambda token: f"Bearer {token}{'A' * 8192}",
    "letters that only look so": lambda token: f"Bearer {token.replace('e', 'е')}",
}


@pytest.fixture
def verifier(tmp_path: Path) -> TokenVerifier:
    path = tmp_path / "clients.json"
    small = json.loads(RSAAlgorithm.to_jwk(SMALL.public_key())) | {"kid": "small"}
    published = OutboundResponse(200, {}, json.dumps({"keys": [*EHR.jwks()["keys"], small]}).encode())
    clients = ClientsFile(EHR.configure(path, jwks=..., jwks_url=JWKS_URL))
    verifier = TokenVerifier(lambda: clients.clients, Store(f"sqlite:///{tmp_path}/t.db"))
    verifier._outbound = KeyServer(lambda: published)  # type: ignore[assignment]
    return verifier


class KeyServer:
    """Replaces the socket; `asked` are the requested URLs."""

    def __init__(self, answer: Callable[[], OutboundResponse]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def request(self, method: str, url: str, **_: Any) -> OutboundResponse:
        self.asked.append(url)
        return self.answer()


@pytest.mark.parametrize("name", TOKENS)
def test_forged_tokens_are_refused_without_contacting_other_hosts(verifier: TokenVerifier, name: str) -> None:
    with pytest.raises(TokenRefusedError):
        verifier.verify(f"Bearer {TOKENS[name]()}", URL)
    assert set(verifier._outbound.asked) <= {JWKS_URL}  # type: ignore[attr-defined]
    # The verifier still works.
    verifier.verify(f"Bearer {EHR.token(URL)}", URL)


@pytest.mark.parametrize("name", AROUND)
def test_malformed_authorization_headers_are_refused(verifier: TokenVerifier, name: str) -> None:
    token = EHR.token(URL)
    with pytest.raises(TokenRefusedError):
        verifier.verify(AROUND[name](token), URL)
    verifier.verify(f"Bearer {token}", URL)  # its id was not used up


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_case_insensitive(verifier: TokenVerifier, scheme: str) -> None:
    """RFC 9110, section 11.1."""
    assert verifier.verify(f"{scheme} {EHR.token(URL)}", URL).client.name == "general"


def test_another_encoding_of_a_signature_is_a_replay(verifier: TokenVerifier) -> None:
    """From an EC signature (r, s) anyone can make (r, n - s): the id is used up by it."""
    token = EHR.token(URL)
    verifier.verify(f"Bearer {token}", URL)
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    order = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
    other = raw[:48] + (order - int.from_bytes(raw[48:], "big")).to_bytes(48, "big")
    with pytest.raises(TokenRefusedError, match="replayed"):
        verifier.verify(f"Bearer {signed}.{b64(other)}", URL)


def test_token_ids_are_per_issuer_and_used_once_over_all_tenants(tmp_path: Path) -> None:
    path, other = tmp_path / "clients.json", Ehr(issuer="https://other.example")
    two = [
        {"name": "one", "issuer": EHR.issuer, "jwks": EHR.jwks(), "tenants": ["north", "south"]},
        {"name": "two", "issuer": other.issuer, "jwks": other.jwks()},
    ]
    path.write_text(json.dumps({"clients": two}))
    clients = ClientsFile(path)
    verifier = TokenVerifier(lambda: clients.clients, Store(f"sqlite:///{tmp_path}/t.db"))
    jti = str(uuid.uuid4())
    assert verifier.verify(f"Bearer {EHR.token(URL, jti=jti, tenant='north')}", URL).tenant == "north"
    with pytest.raises(TokenRefusedError, match="replayed"):
        verifier.verify(f"Bearer {EHR.token(URL, jti=jti, tenant='south')}", URL)
    # An issuer cannot use up the ids of another.
    assert verifier.verify(f"Bearer {other.token(URL, jti=jti)}", URL).client.name == "two"
    # A key of one issuer is not valid for the other.
    with pytest.raises(TokenRefusedError, match="signature"):
        verifier.verify(f"Bearer {EHR.token(URL, key=other.ec_key, tenant='north')}", URL)


def _down() -> OutboundResponse:
    raise OutboundError("unreachable")


BAD_KEY_SERVERS: dict[str, Callable[[], OutboundResponse]] = {
    "down": _down,
    "an error": lambda: OutboundResponse(500, {}, b""),
    "a redirect": lambda: OutboundResponse(302, {"location": "https://mine.example/keys"}, b""),
    "no JSON": lambda: OutboundResponse(200, {}, b"<html>"),
    "JSON of another shape": lambda: OutboundResponse(200, {}, b'["keys"]'),
    "no keys": lambda: OutboundResponse(200, {}, b'{"keys": []}'),
    "only a shared secret": lambda: OutboundResponse(
        200, {}, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "ec-1"}]}'
    ),
    "only a private key": lambda: OutboundResponse(
        200, {}, json.dumps({"keys": [OWN | {"d": "AAAA", "kid": "ec-1"}]}).encode()
    ),
    "a name twice": lambda: OutboundResponse(200, {}, json.dumps({"keys": [OWN, OWN]}).encode()),
    "nested without end": lambda: OutboundResponse(200, {}, b'{"keys": ' + b"[" * 30_000),
}


@pytest.mark.parametrize("name", BAD_KEY_SERVERS)
def test_a_failing_key_server_leaves_the_known_keys(name: str) -> None:
    now = [0.0]
    server = KeyServer(lambda: OutboundResponse(200, {}, json.dumps(EHR.jwks()).encode()))
    keys = FetchedKeys(JWKS_URL, jwks_fetcher(server), lambda: now[0])  # type: ignore[arg-type]
    assert keys.get("ec-1") is not None
    server.answer, now[0] = BAD_KEY_SERVERS[name], 4000.0
    assert keys.get("ec-1") is not None
    assert keys.get("mine") is None
    assert len(server.asked) == 2


def test_keys_of_unknown_types_are_skipped() -> None:
    odd = [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "ed"}, {"kty": "RSA"}, "?", OWN, OWN]
    answer = OutboundResponse(200, {}, json.dumps({"keys": [*odd, *EHR.jwks()["keys"]]}).encode())
    keys = FetchedKeys(JWKS_URL, jwks_fetcher(KeyServer(lambda: answer)))  # type: ignore[arg-type]
    assert keys.get("ec-1") is not None
    assert keys.get("ed") is None
    assert keys.get("mine") is None, "a name that occurs twice names neither"


def test_keys_are_rotated_without_a_restart(verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    new = Ehr()
    server = KeyServer(lambda: OutboundResponse(200, {}, json.dumps(EHR.jwks()).encode()))
    verifier.trust._fetched[JWKS_URL] = FetchedKeys(JWKS_URL, jwks_fetcher(server), lambda: now[0])  # type: ignore[arg-type]
    verifier.verify(f"Bearer {EHR.token(URL)}", URL)
    renamed = {"keys": [key | {"kid": f"{key['kid']}-new"} for key in new.jwks()["keys"]]}
    server.answer = lambda: OutboundResponse(200, {}, json.dumps(renamed).encode())
    now[0] = 31.0
    rotated = jwt.encode(new.claims(URL), new.ec_key, "ES384", {"kid": "ec-1-new", "typ": "JWT"})
    assert verifier.verify(f"Bearer {rotated}", URL).client.name == "general"
    with pytest.raises(TokenRefusedError, match="key"):
        verifier.verify(f"Bearer {EHR.token(URL)}", URL)  # the old key was withdrawn


def test_a_slow_key_server_and_unknown_keys_block_no_known_client() -> None:
    """While an unknown key is fetched, clients with a known key are answered."""
    now, hangs, asked = [0.0], threading.Event(), threading.Event()
    good = OutboundResponse(200, {}, json.dumps(EHR.jwks()).encode())
    server = KeyServer(lambda: good)
    keys = FetchedKeys(JWKS_URL, jwks_fetcher(server), lambda: now[0])  # type: ignore[arg-type]
    assert keys.get("ec-1") is not None

    def slow() -> OutboundResponse:
        asked.set()
        assert hangs.wait(PATIENT)
        return good

    server.answer, now[0] = slow, 31.0
    with ThreadPoolExecutor(3) as pool:
        unknowns = [pool.submit(keys.get, "made-up") for _ in range(2)]
        assert asked.wait(PATIENT)
        assert pool.submit(keys.get, "ec-1").result(PATIENT) is not None
        assert not any(unknown.done() for unknown in unknowns)
        hangs.set()
        assert [unknown.result(PATIENT) for unknown in unknowns] == [None, None]
    assert len(server.asked) == 2


def test_concurrent_first_requests_cause_one_key_fetch() -> None:
    begun, asking = threading.Barrier(8), []

    def slow() -> OutboundResponse:
        assert until(lambda: len(asking) == 8)
        return OutboundResponse(200, {}, json.dumps(EHR.jwks()).encode())

    server = KeyServer(slow)
    keys = FetchedKeys(JWKS_URL, jwks_fetcher(server))  # type: ignore[arg-type]

    def ask(_: int) -> bool:
        begun.wait(PATIENT)
        asking.append(1)
        return keys.get("ec-1") is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert len(server.asked) == 1


def test_the_size_of_a_key_set_is_limited(verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = LIMITS["cds_service.access.client_keys", "FETCH_SECONDS"]
    monkeypatch.setattr(trust_keys, "FETCH_SECONDS", seconds)
    monkeypatch.setattr(trust_keys, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    asked: dict[str, Any] = {}

    class Capped(KeyServer):
        def request(self, method: str, url: str, **given: Any) -> OutboundResponse:
            asked.update(given)
            return super().request(method, url)

    verifier._outbound = Capped(lambda: OutboundResponse(200, {}, json.dumps(EHR.jwks()).encode()))  # type: ignore[assignment]
    verifier.verify(f"Bearer {EHR.token(URL)}", URL)
    assert asked["max_bytes"] == MAX_JWKS_BYTES == 65_536
    assert asked["deadline"] == 1000 + seconds == 1001
    assert "Authorization" not in asked["headers"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    folder = tmp_path_factory.mktemp("attacks")
    return create_app(
        patient_settings(
            {
                "RISKCARDS_PUBLIC_URL": PUBLIC,
                "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/service.db",
                "RISKCARDS_CDS_CLIENTS": str(EHR.configure(folder / "clients.json")),
            }
        )
    )


def test_every_refused_token_is_the_same_401_over_http(app: Flask) -> None:
    client, said = app.test_client(), set()
    headers = [f"Bearer {make()}" for make in TOKENS.values()]
    headers += [dress(EHR.token(URL)) for dress in AROUND.values()]
    for header in headers:
        answer = client.get(
            "/cds-services", headers={"Authorization": header.replace("\n", "").encode().decode("latin-1")}
        )
        if "\n" in header:
            continue  # not allowed in a header
        assert answer.status_code == 401, header[:60]
        said.add((answer.get_data(), answer.headers["WWW-Authenticate"]))
    assert len(said) == 1
    assert client.get("/cds-services", headers={"Authorization": f"bearer {EHR.token(URL)}"}).status_code == 200


def test_a_key_server_that_never_answers_keeps_no_other_client_out(tmp_path: Path) -> None:
    """Its fetches took the threads of the store: every hook of every client failed."""
    other, path, hanging = Ehr(issuer="https://other.example"), tmp_path / "clients.json", threading.Event()
    two = [
        {"name": "one", "issuer": EHR.issuer, "jwks_url": JWKS_URL},
        {"name": "two", "issuer": other.issuer, "jwks": other.jwks()},
    ]
    path.write_text(json.dumps({"clients": two}))
    settings = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/c.db", "RISKCARDS_CDS_CLIENTS": str(path)}
    app = create_app(patient_settings({**settings, "RISKCARDS_PUBLIC_URL": PUBLIC}), Pipeline.shipped())
    parts = app.extensions["riskcards"]

    def never() -> OutboundResponse:
        assert hanging.wait(PATIENT)
        return OutboundResponse(404, {}, b"")

    parts.verifier._outbound = KeyServer(never)
    url = f"{PUBLIC}/cds-services"

    def discovery(ehr: Ehr, kid: str = "ec-1") -> int:
        client = app.test_client()
        signed = jwt.encode(ehr.claims(url), ehr.ec_key, algorithm="ES384", headers={"kid": kid, "typ": "JWT"})
        return client.get("/cds-services", headers={"Authorization": f"Bearer {signed}"}).status_code

    with ThreadPoolExecutor(24) as pool:
        waiting = [pool.submit(discovery, EHR, f"unknown-{number}") for number in range(24)]
        assert until(lambda: parts.verifier._outbound.asked)
        assert discovery(other) == 200
        assert parts.in_time(parts.store.modes) == {}
        hanging.set()
        assert {each.result() for each in waiting} == {401}
