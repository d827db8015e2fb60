"""Tokens with one defect each are refused, with the reason in the log and none in the answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cds_hooks import (
    FetchedKeys,
    FetchError,
    KeyRefusedError,
    MemoryReplayStore,
    TokenRefusedError,
    Trust,
    TrustedIssuer,
)
from tests.cds_hooks.conftest import URL, app_of, echo_hooks
from tests.cds_service.access.ehr import ISSUER, PUBLIC, Ehr, bearer
from tests.contract.rules import assert_outcome

CALLED = f"{PUBLIC}{URL}"


@pytest.fixture(scope="module")
def ehr() -> Ehr:
    return Ehr()


@pytest.fixture
def trust(ehr: Ehr) -> Trust[TrustedIssuer]:
    return Trust(PUBLIC, [TrustedIssuer(ISSUER, jwks=ehr.jwks())])


def refused(trust: Trust[TrustedIssuer], token: str, url: str = CALLED) -> str:
    with pytest.raises(TokenRefusedError) as caught:
        trust.verify(f"Bearer {token}", url)
    assert caught.value.status == 401
    assert caught.value.diagnostics == "authentication is required"
    return caught.value.reason


def test_both_required_algorithms_are_accepted(trust: Trust[TrustedIssuer], ehr: Ehr) -> None:
    for algorithm in ("ES384", "RS384"):
        found = trust.verify(f"Bearer {ehr.token(CALLED, algorithm=algorithm)}", CALLED)
        assert found.issuer.issuer == ISSUER
    assert trust.verify(f"Bearer {ehr.token(CALLED, aud=['x', CALLED])}", CALLED).tenant is None


def now() -> int:
    import time

    return int(time.time())


Claims = dict[str, Any] | Callable[[], dict[str, Any]]
# Claims that depend on the clock are made when their test runs: the tests before it may have taken many minutes.
CLAIMS: list[tuple[str, Claims, str]] = [
    ("another issuer", {"iss": "https://evil.example"}, "unknown-issuer"),
    ("no issuer", {"iss": ...}, "iss-missing"),
    ("another audience", {"aud": PUBLIC}, "audience"),
    ("no audience", {"aud": ...}, "audience"),
    ("expired", lambda: {"iat": now() - 400, "exp": now() - 200}, "expired"),
    ("future iat", lambda: {"iat": now() + 200, "exp": now() + 300}, "not-yet-valid"),
    ("valid too long", lambda: {"exp": now() + 3600}, "lifetime"),
    ("exp before iat", lambda: {"exp": now() - 10}, "lifetime"),
    ("no exp", {"exp": ...}, "exp-not-a-time"),
    ("exp a string", lambda: {"exp": str(now() + 60)}, "exp-not-a-time"),
    ("no iat", {"iat": ...}, "iat-not-a-time"),
    ("no jti", {"jti": ...}, "jti-missing"),
    ("empty jti", {"jti": ""}, "jti-missing"),
    ("long jti", {"jti": "x" * 129}, "jti-missing"),
]


@pytest.mark.parametrize(("name", "given", "reason"), CLAIMS, ids=[row[0] for row in CLAIMS])
def test_wrong_claims(trust: Trust[TrustedIssuer], ehr: Ehr, name: str, given: Claims, reason: str) -> None:
    claims = given() if callable(given) else given
    signed = (
        jwt.encode(
            {key: value for key, value in (ehr.claims(CALLED) | claims).items() if value is not ...},
            ehr.ec_key,
            algorithm="ES384",
            headers={"kid": "ec-1"},
        )
        if not isinstance(claims.get("exp"), str)
        else _with_raw_claims(ehr, claims)
    )
    assert refused(trust, signed) == reason


def _with_raw_claims(ehr: Ehr, claims: dict[str, Any]) -> str:
    payload = json.dumps(ehr.claims(CALLED) | claims).encode()
    return jwt.PyJWS().encode(payload, ehr.ec_key, algorithm="ES384", headers={"kid": "ec-1"})


def test_forged_and_symmetric_tokens(trust: Trust[TrustedIssuer], ehr: Ehr) -> None:
    assert refused(trust, ehr.token(CALLED, key=ec.generate_private_key(ec.SECP384R1()))) == "signature"
    unsigned = jwt.encode(ehr.claims(CALLED), None, algorithm="none", headers={"kid": "ec-1"})
    assert refused(trust, unsigned) == "algorithm"
    symmetric = jwt.encode(ehr.claims(CALLED), "x" * 48, algorithm="HS384", headers={"kid": "ec-1"})
    assert refused(trust, symmetric) == "algorithm"
    other = rsa.generate_private_key(65537, 2048)
    confused = jwt.encode(ehr.claims(CALLED), other, algorithm="RS384", headers={"kid": "ec-1"})
    assert refused(trust, confused) == "key"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"jku": "https://evil.example/jwks.json"}, "key-url"),
        ({"typ": "at+jwt"}, "type"),
        ({"crit": ["x"], "x": 1}, "header"),
        ({"kid": "other"}, "key"),
        ({"kid": ""}, "key-id"),
    ],
)
def test_wrong_headers(trust: Trust[TrustedIssuer], ehr: Ehr, headers: dict[str, Any], reason: str) -> None:
    signed = jwt.encode(ehr.claims(CALLED), ehr.ec_key, algorithm="ES384", headers={"kid": "ec-1"} | headers)
    assert refused(trust, signed) == reason


@pytest.mark.parametrize(
    "header", [None, "", "Basic x", "Bearer", "Bearer a.b", "Bearer a.b.c", "Bearer " + "x" * 9000]
)
def test_headers_without_a_token(trust: Trust[TrustedIssuer], header: str | None) -> None:
    with pytest.raises(TokenRefusedError):
        trust.verify(header, CALLED)


def test_a_token_is_used_once_and_a_forged_one_uses_up_no_id(trust: Trust[TrustedIssuer], ehr: Ehr) -> None:
    forged = ehr.token(CALLED, key=ec.generate_private_key(ec.SECP384R1()), jti="one")
    assert refused(trust, forged) == "signature"
    token = ehr.token(CALLED, jti="one")
    trust.verify(f"Bearer {token}", CALLED)
    assert refused(trust, token) == "replayed"


def test_expired_token_ids_are_removed() -> None:
    from datetime import UTC, datetime, timedelta

    moment = [datetime(2026, 1, 1, tzinfo=UTC)]
    store = MemoryReplayStore(lambda: moment[0])
    assert store.first_use("i", "a", moment[0] + timedelta(seconds=60))
    assert not store.first_use("i", "a", moment[0] + timedelta(seconds=60))
    moment[0] += timedelta(seconds=61)
    assert store.first_use("i", "b", moment[0] + timedelta(seconds=60))
    assert len(store._expires) == 1


def test_keys_are_fetched_from_the_configured_address_only(ehr: Ehr) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return json.dumps(ehr.jwks()).encode()

    address = "https://ehr.example.org/jwks.json"
    trust = Trust(PUBLIC, [TrustedIssuer(ISSUER, jwks_url=address)], fetch_jwks=fetch)
    signed = jwt.encode(ehr.claims(CALLED), ehr.ec_key, algorithm="ES384", headers={"kid": "ec-1", "jku": address})
    assert trust.verify(f"Bearer {signed}", CALLED).issuer.jwks_url == address
    assert refused(trust, ehr.token(CALLED, iss="https://evil.example")) == "unknown-issuer"
    made_up = jwt.encode(ehr.claims(CALLED), ehr.ec_key, algorithm="ES384", headers={"kid": "made-up"})
    assert refused(trust, made_up) == "key"
    assert asked == [address]


def test_keys_stay_valid_for_a_day_without_their_server(ehr: Ehr) -> None:
    now, up = [0.0], [True]

    def fetch(url: str) -> bytes:
        if not up[0]:
            raise FetchError("unreachable")
        return json.dumps(ehr.jwks()).encode()

    keys = FetchedKeys("https://ehr.example.org/jwks.json", fetch, lambda: now[0])
    assert keys.get("ec-1") is not None
    up[0] = False
    now[0] = 23 * 3600.0
    assert keys.get("ec-1") is not None
    now[0] = 25 * 3600.0
    assert keys.get("ec-1") is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jwks": {"keys": []}},
        {"jwks_url": "http://ehr.example.org/jwks.json"},
        {"jwks_url": "https://ehr.example.org/jwks.json", "algorithms": ("HS256",)},
        {"jwks": {"keys": [{"kty": "oct", "k": "eA", "kid": "a"}]}},
    ],
)
def test_an_invalid_issuer_is_refused_at_configuration(options: dict[str, Any]) -> None:
    with pytest.raises(KeyRefusedError):
        TrustedIssuer(ISSUER, **options)


def test_over_http_it_is_401_without_a_reason(
    ehr: Ehr, trust: Trust[TrustedIssuer], body: dict[str, Any], kept: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = app_of(echo_hooks(kept, trust=trust)).test_client()
    with caplog.at_level(logging.DEBUG):
        for answer in (
            client.get("/cds-services"),
            client.post(URL, json=body),
            client.post(f"{URL}/feedback", json={}),
        ):
            assert assert_outcome(answer, 401) == "authentication is required"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "reason=no-token" in caplog.text
    token = ehr.token(CALLED)
    # The Host header of an attacker does not change the audience.
    assert client.post(URL, json=body, headers={**bearer(token), "Host": "evil.example"}).status_code == 200
    assert client.get("/cds-services", headers=bearer(ehr.token(f"{PUBLIC}/cds-services"))).status_code == 200
    entry = {"card": "c", "outcome": "overridden", "outcomeTimestamp": "2026-06-01T10:00:00Z"}
    token = ehr.token(f"{CALLED}/feedback")
    assert client.post(f"{URL}/feedback", json={"feedback": [entry]}, headers=bearer(token)).status_code == 200
    assert kept[0][2].issuer.issuer == ISSUER
    assert token not in caplog.text


def test_discovery_can_be_open(trust: Trust[TrustedIssuer], body: dict[str, Any]) -> None:
    client = app_of(echo_hooks(trust=trust, open_discovery=True)).test_client()
    assert client.get("/cds-services").status_code == 200
    assert client.post(URL, json=body).status_code == 401
