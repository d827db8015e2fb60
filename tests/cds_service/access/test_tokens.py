"""J1 to J9 of the security requirements: any defect of a token is a 401 without details."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from cds_hooks import FetchedKeys, KeyRefusedError, read_keys
from cds_hooks.errors import TokenRefusedError
from cds_service.access.client_keys import jwks_fetcher
from cds_service.access.clients import ClientsFile
from cds_service.access.tokens import TokenVerifier
from cds_service.net.outbound import OutboundResponse
from cds_service.store.errors import StoreError
from cds_service.store.store import Store
from tests.cds_service.access.ehr import PUBLIC, Ehr, bearer
from tests.patience import patient_settings

URL = f"{PUBLIC}/cds-services"


@pytest.fixture(scope="module")
def ehr() -> Ehr:
    return Ehr()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/tokens.db")


@pytest.fixture
def verifier(ehr: Ehr, store: Store, tmp_path: Path) -> TokenVerifier:
    clients = ClientsFile(ehr.configure(tmp_path / "clients.json", tenants=["north", "south"]))
    return TokenVerifier(lambda: clients.clients, store)


def refused(verifier: TokenVerifier, token: str, url: str = URL) -> str:
    with pytest.raises(TokenRefusedError) as caught:
        verifier.verify(f"Bearer {token}", url)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
@pytest.mark.parametrize("audience", [URL, [URL, "https://other.example"]])
def test_a_valid_token_is_accepted(verifier: TokenVerifier, ehr: Ehr, algorithm: str, audience: Any) -> None:
    token = ehr.token(URL, algorithm=algorithm, aud=audience, tenant="north")
    caller = verifier.verify(f"Bearer {token}", URL)
    assert (caller.client.name, caller.tenant) == ("general", "north")


NOW = int(time.time())
CLAIMS: list[tuple[str, dict[str, Any] | Callable[[], dict[str, Any]], str]] = [
    ("another issuer", {"iss": "https://evil.example"}, "unknown-issuer"),
    ("no issuer", {"iss": ...}, "iss-missing"),
    ("issuer with a slash", {"iss": "https://ehr.example.org/"}, "unknown-issuer"),
    ("another service", {"aud": f"{URL}/hospital-risk"}, "audience"),
    ("the host alone", {"aud": PUBLIC}, "audience"),
    ("no audience", {"aud": ...}, "audience"),
    ("audience a number", {"aud": 7}, "audience"),
    ("no exp", {"exp": ...}, "exp-not-a-time"),
    ("exp in words", {"exp": str(NOW + 100)}, "exp-not-a-time"),
    ("exp infinite", {"exp": float("1e999")}, "not-a-token"),
    ("exp negative", {"exp": -0.5}, "exp-not-a-time"),
    ("nbf in words", {"nbf": "now"}, "not-yet-valid"),
    ("a minute and more past its lifetime", lambda: {"exp": time.time() + 420}, "lifetime"),
    ("exp true", {"exp": True}, "exp-not-a-time"),
    ("exp astronomical", {"exp": 10**30}, "exp-not-a-time"),
    ("no iat", {"iat": ...}, "iat-not-a-time"),
    ("expired", {"iat": NOW - 400, "exp": NOW - 200}, "expired"),
    ("issued tomorrow", {"iat": NOW + 90_000, "exp": NOW + 90_100}, "not-yet-valid"),
    ("not before tomorrow", {"nbf": NOW + 90_000}, "not-yet-valid"),
    ("ten years", {"exp": NOW + 315_360_000}, "lifetime"),
    ("ends before it begins", {"iat": NOW, "exp": NOW - 1}, "lifetime"),
    ("no jti", {"jti": ...}, "jti-missing"),
    ("empty jti", {"jti": ""}, "jti-missing"),
    ("jti of 129", {"jti": "x" * 129}, "jti-missing"),
    ("jti a number", {"jti": 4}, "jti-missing"),
    ("another tenant", {"tenant": "east"}, "tenant"),
    ("no tenant", {"tenant": ...}, "tenant"),
]


@pytest.mark.parametrize(("name", "claims", "reason"), CLAIMS, ids=[row[0] for row in CLAIMS])
def test_wrong_claims(verifier: TokenVerifier, ehr: Ehr, name: str, claims: Any, reason: str) -> None:
    given = {"tenant": "north"} | (claims() if callable(claims) else claims)
    head, _, signature = ehr.token(URL).split(".")
    del signature
    # PyJWT refuses to encode some of these itself, so they are signed by hand.
    payload = _b64(json.dumps(ehr.claims(URL, **given)).encode())
    signer = jwt.get_algorithm_by_name("ES384")
    signed = _b64(signer.sign(f"{head}.{payload}".encode(), ehr.ec_key))
    assert refused(verifier, f"{head}.{payload}.{signed}") == reason


HEADERS: list[tuple[str, dict[str, Any], str]] = [
    ("no kid", {"kid": None}, "key-id"),
    ("unknown kid", {"kid": "ec-2"}, "key"),
    ("the key of another algorithm", {"kid": "rsa-1"}, "key"),
    ("another type", {"typ": "at+jwt"}, "type"),
    ("a key of its own", {"jwk": {"kty": "EC"}, "kid": "mine"}, "key"),
    ("a jku we do not know", {"jku": "https://evil.example/keys"}, "key-url"),
    ("critical extensions", {"crit": ["x"], "x": 1}, "header"),
    ("a certificate address", {"x5u": "https://evil.example/c.pem", "kid": "theirs"}, "key"),
]


@pytest.mark.parametrize(("name", "headers", "reason"), HEADERS, ids=[row[0] for row in HEADERS])
def test_wrong_headers(verifier: TokenVerifier, ehr: Ehr, name: str, headers: dict[str, Any], reason: str) -> None:
    head = {"alg": "ES384", "typ": "JWT", "kid": "ec-1"} | headers
    coded = _b64(json.dumps({k: v for k, v in head.items() if v is not None}).encode())
    payload = _b64(json.dumps(ehr.claims(URL, tenant="north")).encode())
    signer = jwt.get_algorithm_by_name("ES384")
    signed = _b64(signer.sign(f"{coded}.{payload}".encode(), ehr.ec_key))
    assert refused(verifier, f"{coded}.{payload}.{signed}") == reason


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_unsigned_symmetric_and_foreign_signatures_are_refused(verifier: TokenVerifier, ehr: Ehr) -> None:
    claims = ehr.claims(URL, tenant="north")
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": "ec-1"})
    assert refused(verifier, unsigned) == "algorithm"
    # The public key as a shared secret: algorithm confusion.
    shared = ehr.jwks()["keys"][0]["x"] * 2
    assert refused(verifier, jwt.encode(claims, shared, algorithm="HS384", headers={"kid": "ec-1"})) == "algorithm"
    forged = ehr.token(URL, key=ec.generate_private_key(ec.SECP384R1()), tenant="north")
    assert refused(verifier, forged) == "signature"
    head, payload, signature = ehr.token(URL, tenant="north").split(".")
    other = _b64(json.dumps(ehr.claims(URL, tenant="south")).encode())
    assert payload != other
    assert refused(verifier, f"{head}.{other}.{signature}") == "signature"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a.b", "Bearer é.b.c", "Bearer ..", "Bearer " + "x" * 9000],
)
def test_malformed_tokens_are_refused(verifier: TokenVerifier, header: str | None) -> None:
    with pytest.raises(TokenRefusedError):
        verifier.verify(header, URL)


def test_a_token_is_used_once_over_all_workers(verifier: TokenVerifier, ehr: Ehr, tmp_path: Path) -> None:
    token = ehr.token(URL, tenant="north")
    verifier.verify(f"Bearer {token}", URL)
    assert refused(verifier, token) == "replayed"
    second = Store(f"sqlite:///{tmp_path}/tokens.db")
    clients = ClientsFile(tmp_path / "clients.json")
    assert refused(TokenVerifier(lambda: clients.clients, second), token) == "replayed"
    second.close()


def test_one_of_concurrent_replays_passes(verifier: TokenVerifier, ehr: Ehr) -> None:
    token = ehr.token(URL, tenant="north")

    def attempt(_: int) -> bool:
        try:
            verifier.verify(f"Bearer {token}", URL)
        except TokenRefusedError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(50))) == 1


def test_a_forged_token_does_not_use_up_a_valid_id(verifier: TokenVerifier, ehr: Ehr) -> None:
    forged = ehr.token(URL, key=ec.generate_private_key(ec.SECP384R1()), jti="same", tenant="north")
    assert refused(verifier, forged) == "signature"
    verifier.verify(f"Bearer {ehr.token(URL, jti='same', tenant='north')}", URL)


def test_no_token_is_accepted_without_the_store(ehr: Ehr, tmp_path: Path) -> None:
    class Down:
        def first_use(self, issuer: str, jti: str, expires: datetime) -> bool:
            raise StoreError("down")

    clients = ClientsFile(ehr.configure(tmp_path / "clients.json"))
    with pytest.raises(StoreError):
        TokenVerifier(lambda: clients.clients, Down()).verify(f"Bearer {ehr.token(URL)}", URL)


class _KeyServer:
    """Replaces the socket: the answer of the key URL, and the number of requests."""

    def __init__(self, answer: Callable[[], OutboundResponse]) -> None:
        self.answer, self.asked = answer, 0

    def request(self, *_: Any, **__: Any) -> OutboundResponse:
        self.asked += 1
        return self.answer()


def test_fetched_keys_are_refetched_rarely_and_kept_a_day(ehr: Ehr) -> None:
    now = [0.0]
    good = OutboundResponse(200, {}, json.dumps(ehr.jwks()).encode())
    server = _KeyServer(lambda: good)
    keys = FetchedKeys("https://ehr.example.org/jwks", jwks_fetcher(server), lambda: now[0])  # type: ignore[arg-type]
    assert keys.get("ec-1") is not None
    for _ in range(100):
        assert keys.get("made-up") is None
    assert server.asked == 1
    now[0] = 31
    assert keys.get("made-up") is None
    assert server.asked == 2
    server.answer = lambda: OutboundResponse(503, {}, b"")
    now[0] = 20 * 3600
    assert keys.get("ec-1") is not None
    now[0] = 25 * 3600
    assert keys.get("ec-1") is None
    server.answer = lambda: OutboundResponse(200, {}, b'{"keys": "all of them"}')
    now[0] = 26 * 3600
    assert keys.get("ec-1") is None


def _jwk(**changed: Any) -> dict[str, Any]:
    key = Ehr().jwks()["keys"][0] | changed
    return {name: value for name, value in key.items() if value is not ...}


def test_unusable_keys_are_named() -> None:
    small = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    cases: list[tuple[Any, str]] = [
        ([], "JWK set"),
        ({"keys": []}, "JWK set"),
        ({"keys": [small | {"kid": "a"}]}, "1024 bits"),
        ({"keys": [_jwk(d="secret")]}, "private"),
        ({"keys": [{"kty": "oct", "k": "secret", "kid": "a"}]}, "symmetric"),
        ({"keys": [_jwk(kid=...)]}, "kid"),
        ({"keys": [_jwk(), _jwk()]}, "twice"),
        ({"keys": [_jwk(x="AAAA")]}, "not a usable"),
        ({"keys": ["key"]}, "object"),
    ]
    for jwks, said in cases:
        with pytest.raises(KeyRefusedError, match=said):
            read_keys(jwks)


def test_a_401_has_no_details_and_tokens_are_not_logged(
    ehr: Ehr, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from cds_service.application.factory import create_app

    settings = patient_settings(
        {
            "RISKCARDS_PUBLIC_URL": PUBLIC,
            "RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/service.db",
            "RISKCARDS_CDS_CLIENTS": str(ehr.configure(tmp_path / "clients.json")),
        }
    )
    app = create_app(settings)
    client = app.test_client()
    caplog.set_level(logging.DEBUG)
    stale = ehr.token(URL, iat=NOW - 900, exp=NOW - 800)
    answers = [
        client.get("/cds-services"),
        client.get("/cds-services", headers=bearer(stale)),
        client.get("/cds-services", headers=bearer(ehr.token(f"{PUBLIC}/elsewhere"))),
        # The Host header does not change the audience.
        client.get(
            "/cds-services",
            headers=bearer(ehr.token("http://evil.example/cds-services")),
            base_url="http://evil.example",
        ),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.get_data() for answer in answers}) == 1
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    good = ehr.token(URL)
    assert client.get("/cds-services", headers=bearer(good)).status_code == 200
    assert client.get("/cds-services", headers=bearer(good)).status_code == 401
    assert client.post("/cds-services/hospital-risk", json={}).status_code == 401
    assert client.post("/cds-services/hospital-risk/feedback", json={}).status_code == 401
    assert client.get("/health/live").status_code == 200
    assert good not in caplog.text
    assert good.split(".")[1] not in caplog.text
    assert "reason=expired" in caplog.text
    app.extensions["riskcards"].store.close()


def test_times_within_the_leeway_are_accepted(verifier: TokenVerifier, ehr: Ehr) -> None:
    """Clients that round, or take the time twice, were refused: `exp - iat` of 301, fractions of seconds."""
    now = time.time()
    for times in (
        {"iat": int(now), "exp": int(now) + 301},
        {"iat": now, "exp": now + 300.0},
        {"iat": now + 0.25, "exp": now + 300.75},
        {"iat": now - 330, "exp": now - 30.5},
        {"iat": now + 30.5, "exp": now + 330, "nbf": now + 20.25},
        {"iat": int(now), "exp": int(now) + 345},
    ):
        # By hand: PyJWT rounds some of these.
        head = ehr.token(URL).split(".")[0]
        payload = _b64(json.dumps(ehr.claims(URL, tenant="north", **times)).encode())
        signed = _b64(jwt.get_algorithm_by_name("ES384").sign(f"{head}.{payload}".encode(), ehr.ec_key))
        assert verifier.verify(f"Bearer {head}.{payload}.{signed}", URL).tenant == "north", times


JKU = "https://sandbox.example.org/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("configured", "sent", "accepted"),
    [
        ({"jku": [JKU]}, JKU, True),
        ({"jku": ["https://other.example.org/jwks", JKU]}, JKU, True),
        ({"jku": [JKU]}, None, True),
        ({"jku": [JKU]}, f"{JKU}?x", False),
        ({"jku": [JKU]}, JKU.upper(), False),
        ({"jku": [JKU]}, [JKU], False),
        ({"jku": [JKU]}, "", False),
        ({}, JKU, False),
        ({}, None, True),
    ],
)
def test_with_pinned_keys_a_jku_must_be_on_the_list(
    ehr: Ehr, store: Store, tmp_path: Path, configured: dict[str, Any], sent: Any, accepted: bool
) -> None:
    """The sandbox and Inferno always send one, and were refused wherever keys are pinned."""
    clients = ClientsFile(ehr.configure(tmp_path / "clients.json", **configured))
    checked = TokenVerifier(lambda: clients.clients, store)
    head = {"kid": "ec-1", "typ": "JWT"} | ({} if sent is None else {"jku": sent})
    token = jwt.encode(ehr.claims(URL), ehr.ec_key, algorithm="ES384", headers=head)
    if accepted:
        assert checked.verify(f"Bearer {token}", URL).client.name == "general"
    else:
        assert refused(checked, token) == "key-url"


def test_a_jku_on_the_list_of_one_client_is_no_other_clients(ehr: Ehr, store: Store, tmp_path: Path) -> None:
    """`iss` and `jku` together: an allowed address with another issuer is refused."""
    other = Ehr("https://other.example.org")
    listed = [
        {"name": "one", "issuer": ehr.issuer, "jwks": ehr.jwks(), "jku": [JKU]},
        {"name": "two", "issuer": other.issuer, "jwks": other.jwks()},
    ]
    (tmp_path / "clients.json").write_text(json.dumps({"clients": listed}))
    clients = ClientsFile(tmp_path / "clients.json")
    checked = TokenVerifier(lambda: clients.clients, store)
    for sender, reason in ((other, "key-url"), (Ehr("https://evil.example"), "unknown-issuer")):
        token = jwt.encode(
            sender.claims(URL), sender.ec_key, algorithm="ES384", headers={"kid": "ec-1", "typ": "JWT", "jku": JKU}
        )
        assert refused(checked, token) == reason


def test_a_refusal_says_what_was_expected_and_what_came(ehr: Ehr, store: Store, tmp_path: Path) -> None:
    clients = ClientsFile(ehr.configure(tmp_path / "clients.json", jwks=..., jwks_url="https://127.0.0.1/jwks"))
    fetched = TokenVerifier(lambda: clients.clients, store)
    pinned = ClientsFile(ehr.configure(tmp_path / "pinned.json", jku=[JKU]))
    checked = TokenVerifier(lambda: pinned.clients, store)
    for verifier, token, said in (
        (checked, ehr.token(f"{PUBLIC}/elsewhere"), f'received_aud=["{PUBLIC}/elsewhere"] expected_aud="{URL}"'),
        (checked, ehr.token(URL, iss="https://evil.example"), 'received_iss="https://evil.example"'),
        (checked, ehr.token(URL, iss="Jane Evil\nDoe"), 'received_iss="<not a URL>"'),
        (checked, ehr.token(URL, exp=int(time.time()) + 900), "accepted_seconds=300"),
        (fetched, ehr.token(URL), 'jwks="address-not-allowed"'),
    ):
        with pytest.raises(TokenRefusedError) as caught:
            verifier.verify(f"Bearer {token}", URL)
        text = caught.value.log_text
        assert said in text
        assert ('client="general"' in text) == ("received_iss" not in text)
        assert "\n" not in text
        assert token.split(".")[2] not in text


def test_token_times_are_checked_by_the_service_clock(ehr: Ehr, store: Store, tmp_path: Path) -> None:
    """The leeway is a minute, on both sides."""
    clients = ClientsFile(ehr.configure(tmp_path / "clients.json"))
    at = [float(NOW)]
    verifier = TokenVerifier(lambda: clients.clients, store, clock=lambda: datetime.fromtimestamp(at[0], UTC))
    for moment, accepted in ((NOW - 61, False), (NOW - 59, True), (NOW + 159, True), (NOW + 161, False)):
        at[0] = moment
        token = ehr.token(URL, iat=NOW, exp=NOW + 100)
        if accepted:
            verifier.verify(f"Bearer {token}", URL)
        else:
            refused(verifier, token)
