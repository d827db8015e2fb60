"""M1–M3 and everything else that must end a launch: each row is one thing wrong, and none leaves a session."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from cds_service.oauth import grant
from cds_service.smart import launch
from cds_service.store.schema import SEALED
from tests.cds_service.smart.authority import SECRET, Realm
from tests.cds_service.smart.browser import Browser
from tests.patience import POLLED

OTHER_KEY = rsa.generate_private_key(65537, 2048)
EVIL = "https://evil.example"


def id_token(**claims: Any) -> dict[str, Any]:
    return {"id_token": claims}


def token(**members: Any) -> dict[str, Any]:
    return {"token": members}


def signing(**how: Any) -> dict[str, Any]:
    return {"signing": how}


def configuration(**members: Any) -> dict[str, Any]:
    return {"configuration": members}


AFTER_LOGIN = {
    "another state": ({"callback": {"state": "x" * 43}}, 400, "state"),
    "no state": ({"callback": {"state": ...}}, 400, "state"),
    "a state that is no text": ({"callback": {"state": "\x00"}}, 400, "parameter"),
    "another server's answer": ({"callback": {"iss": EVIL}}, 400, "answer-of-another-issuer"),
    "access denied": ({"callback": {"error": "access_denied", "code": ...}}, 400, "ehr-refused"),
    "error and code": ({"callback": {"error": "server_error"}}, 400, "ehr-refused"),
    "no code": ({"callback": {"code": ...}}, 400, "no-code"),
    "a code nobody gave": ({"callback": {"code": "guessed"}}, 400, "token-refused-invalid_grant"),
    "another nonce": (id_token(nonce="another"), 400, "id-token-nonce"),
    "no nonce": (id_token(nonce=...), 400, "id-token-nonce-missing"),
    "another issuer": (id_token(iss=EVIL), 400, "id-token-issuer"),
    "no issuer": (id_token(iss=...), 400, "id-token-iss-missing"),
    "another audience": (id_token(aud="another app"), 400, "id-token-audience"),
    "no audience": (id_token(aud=...), 400, "id-token-aud-missing"),
    "two audiences, not said for whom": (id_token(aud=["riskcards app", "b"]), 400, "id-token-audience"),
    "for another party": (id_token(azp="another app"), 400, "id-token-audience"),
    "an expired id_token": (id_token(exp=1_000_000_000), 400, "id-token-expired"),
    "no expiry": (id_token(exp=...), 400, "id-token-exp-missing"),
    "an expiry in words": (id_token(exp="tomorrow"), 400, "id-token-claims"),
    "an id_token of tomorrow": (id_token(iat=4_000_000_000, exp=4_000_000_300), 400, "id-token-not-yet-valid"),
    "an unsigned id_token": (signing(algorithm="none", key=None), 400, "id-token-algorithm"),
    "signed with our secret": (signing(algorithm="HS256", key=SECRET * 2), 400, "id-token-algorithm"),
    "signed by another": (signing(key=OTHER_KEY), 400, "id-token-signature"),
    "an unknown key": (signing(kid="unknown"), 400, "id-token-key"),
    "no kid and two keys": ({"more_keys": [OTHER_KEY]} | signing(kid=None), 400, "id-token-key"),
    "an id_token that is none": (token(id_token="x.y"), 400, "id-token-not-a-token"),
    "no keys": (configuration(jwks_uri=..., issuer=...), 400, "id-token-no-jwks-uri"),
    "no patient": (token(patient=...), 400, "no-patient"),
    "a patient that is a path": (token(patient="../Patient/ines"), 400, "no-patient"),
    "a patient that is a number": (token(patient=7), 400, "no-patient"),
    "an encounter that is a path": (token(encounter="a/b"), 400, "encounter"),
    "another token type": (token(token_type="mac"), 502, "token-answer-token-type"),
    "no token type": (token(token_type=...), 502, "token-answer-token-type"),
    "no access token": (token(access_token=...), 502, "token-answer-access-token"),
    "a token of two lines": (token(access_token="a\r\nX: y"), 502, "token-answer-access-token"),
    "a server error": ({"token_status": 500}, 502, "token-answer-status-500"),
}  # fmt: skip

BEFORE_LOGIN = {
    "authorization elsewhere": (configuration(authorization_endpoint=f"{EVIL}/a"), "authorization_endpoint-elsewhere"),
    "token elsewhere": (configuration(token_endpoint="//evil.example/token"), "token_endpoint-elsewhere"),
    "keys elsewhere": (configuration(jwks_uri=f"{EVIL}/jwks"), "jwks_uri-elsewhere"),
    "a host that only looks right": (configuration(token_endpoint="http://127.0.0.1@evil.example/t"), "token_endpoint"),
    "another port": (configuration(token_endpoint="http://127.0.0.1:1/token"), "token_endpoint-elsewhere"),
    "a script": (configuration(authorization_endpoint="javascript:alert(1)"), "authorization_endpoint-elsewhere"),
    "a broken address": (configuration(token_endpoint="http://[::1/token"), "token_endpoint-elsewhere"),
    "no endpoints": (configuration(authorization_endpoint=..., token_endpoint=...), "no-endpoints"),
    "PKCE only in the clear": (configuration(code_challenge_methods_supported=["plain"]), "no-s256"),
    "no configuration": ({"discovery_answer": (404, {})}, "smart-configuration-unusable"),
    "not JSON": ({"discovery_answer": (200, b"<html>")}, "smart-configuration-unusable"),
    "a list": ({"discovery_answer": (200, [])}, "smart-configuration-unusable"),
    "too much": ({"discovery_answer": (200, b" " * 300_000)}, "smart-configuration-too-large"),
}


def assert_refused(answer: TestResponse, status: int) -> str:
    """A page in plain words, with nothing of a session."""
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "text/html"
    assert not [cookie for cookie in answer.headers.getlist("Set-Cookie") if "Path=/app" in cookie]
    assert "Location" not in answer.headers
    return answer.get_data(as_text=True)


def sessions(app: Flask) -> int:
    with app.extensions["riskcards"].store.sealed.engine.begin() as connection:
        return int(connection.execute(select(func.count()).where(SEALED.c.kind == "session")).scalar_one())


@pytest.mark.parametrize(("wrong", "status", "reason"), AFTER_LOGIN.values(), ids=AFTER_LOGIN)
def test_what_is_wrong_after_the_login_ends_the_launch(
    app: Flask, browser: Browser, ehr: Realm, caplog: pytest.LogCaptureFixture, wrong: Any, status: int, reason: str
) -> None:
    before = sessions(app)
    ehr.wrong = wrong
    with caplog.at_level(logging.INFO):
        assert_refused(browser.launch(ehr), status)
    assert f"launch refused reason={reason} " in caplog.text
    assert sessions(app) == before


def test_a_slow_server_is_not_waited_for(
    app: Flask, browser: Browser, ehr: Realm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, arrived, over = sessions(app), threading.Event(), threading.Event()
    monkeypatch.setattr(grant, "TOKEN_SECONDS", 1.0)
    ehr.wrong = {"token_held": (arrived, over)}
    with caplog.at_level(logging.INFO):
        assert_refused(browser.launch(ehr), 502)
    assert arrived.wait(POLLED)
    over.set()
    assert "reason=token-too-slow " in caplog.text
    assert sessions(app) == before


@pytest.mark.parametrize(("wrong", "reason"), BEFORE_LOGIN.values(), ids=BEFORE_LOGIN)
def test_a_server_that_cannot_be_trusted_gets_no_visitor(
    browser: Browser, ehr: Realm, caplog: pytest.LogCaptureFixture, wrong: Any, reason: str
) -> None:
    ehr.wrong = wrong
    with caplog.at_level(logging.INFO):
        assert_refused(browser.begin(ehr, "for-walter"), 502)
    assert f"reason={reason}" in caplog.text
    assert not ehr.token_requests


@pytest.mark.parametrize(
    ("suffix", "status"), [("-evil", 403), ("/../admin", 403), ("?x", 403), ("#x", 403), ("\x00", 400), (" ", 403)]
)
def test_only_servers_on_the_list_may_launch(browser: Browser, ehr: Realm, suffix: str, status: int) -> None:
    assert_refused(browser.get("/launch", iss=ehr.base + suffix, launch="for-walter"), status)
    assert browser.get("/launch", iss=ehr.base + "/", launch="for-walter").status_code == 303


def test_a_launch_names_one_ehr(browser: Browser, ehr: Realm) -> None:
    assert_refused(browser.get("/launch"), 400)
    assert_refused(browser.get("/launch", iss=EVIL), 403)
    assert_refused(browser.client.get(f"/launch?iss={ehr.base}&iss={EVIL}"), 400)
    assert_refused(browser.get("/launch", iss=ehr.base, launch="x" * 5000), 400)


def test_a_state_is_good_once_and_in_its_own_browser(app: Flask, browser: Browser, ehr: Realm) -> None:
    back = ehr.authorize(browser.begin(ehr, "for-walter").headers["Location"])
    assert browser.get("/smart/callback", **back).status_code == 303
    assert_refused(browser.get("/smart/callback", **back), 400)
    stolen = ehr.authorize(browser.begin(ehr, "for-walter").headers["Location"])
    assert_refused(Browser(app).get("/smart/callback", **stolen), 400)
    assert_refused(browser.get("/smart/callback", **stolen), 400)
    sent = [request["code"] for request in ehr.token_requests]
    assert sent == [back["code"]], "a code without its browser is not even sent"


def test_a_state_is_good_for_ten_minutes(browser: Browser, ehr: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timedelta(minutes=10) == launch.STATE_LIFETIME
    monkeypatch.setattr(launch, "STATE_LIFETIME", timedelta(seconds=-1))
    begun = browser.begin(ehr, "for-walter")
    assert_refused(browser.get("/smart/callback", **ehr.authorize(begun.headers["Location"])), 400)


def test_a_code_is_good_for_its_own_launch_only(browser: Browser, ehr: Realm) -> None:
    """A code that was slipped in from another launch fails by PKCE, one that was used by the server's memory."""
    first = ehr.authorize(browser.begin(ehr, "for-walter").headers["Location"])
    second = ehr.authorize(browser.begin(ehr, "for-ines").headers["Location"])
    assert_refused(browser.get("/smart/callback", **first | {"code": second["code"]}), 400)
    third = ehr.authorize(browser.begin(ehr, "for-ines").headers["Location"])
    assert browser.get("/smart/callback", **third).status_code == 303
    fourth = ehr.authorize(browser.begin(ehr, "for-walter").headers["Location"])
    assert_refused(browser.get("/smart/callback", **fourth | {"code": third["code"]}), 400)


def test_the_ehrs_words_are_shown_as_text(browser: Browser, ehr: Realm) -> None:
    hostile = "<script>alert(1)</script>"
    ehr.wrong = {"callback": {"error": "access_denied", "error_description": hostile}}
    answer = browser.launch(ehr)
    page = assert_refused(answer, 400)
    assert "access_denied" in page
    assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_without_clients_nothing_can_be_launched(tmp_path: Any, ehr: Realm) -> None:
    from tests.end_to_end.golden import make_app

    app = make_app(tmp_path)
    browser = Browser(app)
    assert_refused(browser.begin(ehr, "for-walter"), 404)
    assert browser.get("/.well-known/jwks.json").get_json() == {"keys": []}
    app.extensions["riskcards"].store.close()
