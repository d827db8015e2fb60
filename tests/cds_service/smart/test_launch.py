"""Launches from end to end, against a server that checks our side of each step."""

from __future__ import annotations

import itertools
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask

from cds_hooks import HookError
from cds_service.application.factory import create_app
from cds_service.oauth.vault import fingerprint
from cds_service.smart import style
from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.browser import Browser
from tests.cds_service.smart.conftest import configuration
from tests.patience import patient_settings

OTHER_KEY = rsa.generate_private_key(65537, 2048)
CANARIES = ("canary-code", "canary-token", "canary-refresh", "canary-secret", "Patient/walter", "patient=walter")


def asked(browser: Browser, ehr: Realm, launch: str | None = "for-walter") -> dict[str, str]:
    location = browser.begin(ehr, launch).headers["Location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


@pytest.mark.parametrize("registered", ["public", "symmetric", "asymmetric", "rsa"])
@pytest.mark.parametrize("launch", ["for-walter", None], ids=["from the EHR", "standalone"])
def test_a_launch_ends_in_a_session(
    browser: Browser, ehr: Realm, realms: dict[str, Realm], registered: str, launch: str | None
) -> None:
    answer = browser.launch(realms[registered], launch)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    session = browser.session(answer)
    assert (session.patient_id, session.encounter_id, session.user) == ("walter", "stay", "Practitioner/7")
    assert browser.chart(answer).subject_id == "walter"


def test_the_request_says_what_the_standard_asks(browser: Browser, ehr: Realm) -> None:
    """What `Realm.authorize` checks besides: S256, redirect URI, `aud`, length of the state."""
    first, second = asked(browser, ehr), asked(browser, ehr, None)
    assert first["launch"] == "for-walter"
    assert "launch" not in second
    assert first["scope"].split()[:4] == ["launch", "openid", "fhirUser", "online_access"]
    assert second["scope"].split()[0] == "launch/patient"
    assert "patient/Observation.rs" in first["scope"].split()
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]


@pytest.mark.parametrize(
    ("reported", "some", "none"),
    [
        ({"capabilities": ["permission-v1"]}, "patient/Observation.read", "openid"),
        ({"capabilities": ["permission-v1", "permission-v2"]}, "patient/Observation.rs", "openid"),
        ({"capabilities": [], "scopes_supported": []}, "openid", "online_access"),
        ({"capabilities": ..., "scopes_supported": ["patient/*.read"]}, "patient/Patient.read", "patient/Patient.rs"),
        ({"capabilities": "words", "scopes_supported": 7}, "patient/Patient.read", "online_access"),
        ({"capabilities": ["permission-offline", "permission-v2"]}, "patient/Patient.rs", "offline_access"),
    ],
)
def test_scopes_are_asked_for_in_the_servers_words(
    browser: Browser, ehr: Realm, reported: dict[str, Any], some: str, none: str
) -> None:
    ehr.wrong = {"configuration": {"scopes_supported": []} | reported}
    scopes = asked(browser, ehr)["scope"].split()
    assert some in scopes
    assert none not in scopes
    assert len(scopes) == len(set(scopes))


WELL_ENOUGH = {
    "bearer in another case": {"token": {"token_type": "BEARER"}},
    "an expiry in words": {"token": {"expires_in": "300"}},
    "no expiry": {"token": {"expires_in": ...}},
    "no scope told": {"token": {"scope": ...}},
    "no kid, one key": {"signing": {"kid": None}},
    "no kid, one key without a name": {"signing": {"kid": None}, "unnamed_keys": True},
    "a kid among several keys": {"more_keys": [OTHER_KEY]},
    "a key set told by the OpenID configuration only": {"configuration": {"jwks_uri": ...}},
    "several audiences, said for whom": {"id_token": {"aud": ["riskcards app", "b"], "azp": "riskcards app"}},
    "a user by profile, relative": {"id_token": {"fhirUser": ..., "profile": "Practitioner/7"}},
    "no `iss` beside the code": {"callback": {"iss": ...}},
    "no word on PKCE": {"configuration": {"code_challenge_methods_supported": ...}},
    "an authorization endpoint with a query": None,
}


@pytest.mark.parametrize("wrong", WELL_ENOUGH.values(), ids=WELL_ENOUGH)
def test_what_servers_differ_in_does_not_matter(browser: Browser, ehr: Realm, wrong: dict[str, Any] | None) -> None:
    query = {"configuration": {"authorization_endpoint": f"{ehr.issuer}/authorize?tenant=1"}}
    ehr.wrong = query if wrong is None else wrong
    answer = browser.launch(ehr)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    assert browser.session(answer).user == "Practitioner/7"


@pytest.mark.parametrize("user", ["https://evil.example/Practitioner/7", "Group/7", "Practitioner/../7", 7, ...])
def test_a_user_in_another_form_is_none(browser: Browser, ehr: Realm, user: Any) -> None:
    ehr.wrong = {"id_token": {"fhirUser": user}}
    assert browser.session(browser.launch(ehr)).user is None


def test_fewer_scopes_than_asked_are_lived_with(browser: Browser, ehr: Realm) -> None:
    """Nobody known, no labs: the session says so, and what may not be read is not fetched, never none."""
    ehr.wrong = {
        "token": {"scope": "launch patient/Patient.rs patient/Encounter.rs", "id_token": ...},
        "forbidden": ("Observation", "DocumentReference"),
    }
    answer = browser.launch(ehr)
    session, record = browser.session(answer), browser.chart(answer)
    assert session.scopes == ("launch", "patient/Patient.rs", "patient/Encounter.rs")
    assert session.user is None
    assert record.availability("Observation").name == "NOT_FETCHED"
    assert record.availability("Condition").name == "FETCHED"


def test_the_launch_context_is_kept_as_far_as_it_makes_sense(
    browser: Browser, ehr: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "STYLE_SECONDS", 30.0)
    reported = {
        "need_patient_banner": False,
        "smart_style_url": f"{ehr.issuer}/style.json",
        "fhirContext": [{"reference": "ImagingStudy/1"}, {"reference": "../x"}, {"canonical": "y"}, 7],
        "intent": "reconcile",
    }
    ehr.wrong = {"token": reported}
    session = browser.session(browser.launch(ehr))
    assert not session.need_patient_banner
    assert session.style == {"color_background": "#edeae3"}
    assert session.fhir_context == ("ImagingStudy/1",)
    assert session.intent == "reconcile"
    ehr.wrong = {"token": dict.fromkeys(reported, "nonsense")}
    session = browser.session(browser.launch(ehr))
    assert session.need_patient_banner
    assert (session.style, session.fhir_context, session.intent) == ({}, (), "nonsense")


@pytest.mark.parametrize(
    "url", ["https://evil.example/style.json", "http://127.0.0.1:1/style.json", "/style.json", "x:"]
)
def test_a_style_from_elsewhere_is_not_fetched(browser: Browser, ehr: Realm, url: str) -> None:
    ehr.wrong = {"token": {"smart_style_url": url}}
    assert browser.session(browser.launch(ehr)).style == {}


def cookie_attributes(header: str) -> set[str]:
    return {part.strip().partition("=")[0].lower() for part in header.split(";")[1:]}


def test_cookies_can_live_in_an_ehrs_frame_and_nowhere_else(browser: Browser, ehr: Realm) -> None:
    begun = browser.begin(ehr, "for-walter")
    (launch,) = begun.headers.getlist("Set-Cookie")
    answer = browser.get("/smart/callback", **ehr.authorize(begun.headers["Location"]))
    (session,) = [each for each in answer.headers.getlist("Set-Cookie") if "Path=/app" in each]
    (gone,) = [each for each in answer.headers.getlist("Set-Cookie") if "Path=/app" not in each]
    for header in (launch, session, gone):
        assert {"secure", "httponly", "samesite", "partitioned", "path"} <= cookie_attributes(header)
        assert "SameSite=None" in header
        assert "domain" not in cookie_attributes(header)
    assert "Path=/smart/callback" in launch
    assert "Max-Age=600" in launch
    assert "Max-Age=0" in gone
    path = answer.headers["Location"]
    assert f"Path={path.rstrip('/')}" in session
    assert re.fullmatch(r"/app/[A-Za-z0-9_-]{43}/", path)
    assert "walter" not in path + session, "no patient in an address or a cookie"


def test_on_this_very_machine_cookies_go_without_https(
    app: Flask, realms: dict[str, Realm], ehr: Realm, tmp_path: Path
) -> None:
    parts = app.extensions["riskcards"]
    env = configuration(tmp_path, realms) | {"RISKCARDS_PUBLIC_URL": "http://127.0.0.1:8080"}
    local = create_app(patient_settings(env), pipeline=parts.pipeline)
    (cookie,) = Browser(local).begin(ehr, "for-walter").headers.getlist("Set-Cookie")
    assert not {"secure", "partitioned"} & cookie_attributes(cookie)
    assert "SameSite=Lax" in cookie
    local.extensions["riskcards"].store.close()


def test_the_session_is_new_after_the_callback(browser: Browser, ehr: Realm) -> None:
    """Nothing that was known before the login opens the session: no fixation (M2)."""
    begun = browser.begin(ehr, "for-walter")
    before = set(re.findall(r"[A-Za-z0-9_-]{43}", str(begun.headers)))
    answer = browser.get("/smart/callback", **ehr.authorize(begun.headers["Location"]))
    after = set(re.findall(r"[A-Za-z0-9_-]{43}", str(answer.headers)))
    assert len(after) == 2, "an id and a cookie"
    assert not before & after


PATIENTS = {"first": "for-walter", "second": "for-ines", "third": "for-walter"}


@pytest.mark.parametrize("order", list(itertools.permutations(PATIENTS)))
def test_launches_side_by_side_never_mix(browser: Browser, ehr: Realm, order: tuple[str, ...]) -> None:
    """Three launches in one browser come back in any order: each session has its own patient, token and cookie (M2)."""
    begun = {name: browser.begin(ehr, launch).headers["Location"] for name, launch in PATIENTS.items()}
    back = {name: ehr.authorize(location) for name, location in begun.items()}
    answers = {name: browser.get("/smart/callback", **back[name]) for name in order}
    assert len({answer.headers["Location"] for answer in answers.values()}) == 3
    for name, answer in answers.items():
        patient = PATIENTS[name].removeprefix("for-")
        assert browser.session(answer).patient_id == patient
        ehr.asked.clear()
        assert browser.chart(answer).subject_id == patient
        assert {ehr.tokens[token] for _, token in ehr.asked} == {patient}
        assert len(browser.cookies(answer.headers["Location"]).split("; ")) == 1


def test_launches_at_the_same_moment_never_mix(app: Flask, ehr: Realm) -> None:
    def one(number: int) -> bool:
        patient = ("walter", "ines")[number % 2]
        browser = Browser(app)
        return browser.session(browser.launch(ehr, f"for-{patient}")).patient_id == patient

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(12)))


def test_a_session_opens_in_its_own_browser_only(app: Flask, browser: Browser, ehr: Realm) -> None:
    mine, yours = browser.launch(ehr, "for-walter"), browser.launch(ehr, "for-ines")
    with pytest.raises(HookError) as caught:
        Browser(app).session(mine)
    assert caught.value.status == 401
    # The cookie of one session under the name of the other.
    foreign = Browser(app)
    (cookie,) = [each for each in yours.headers.getlist("Set-Cookie") if "Path=/app" in each]
    path = mine.headers["Location"]
    name = f"riskcards-{fingerprint(path.split('/')[2])[:16]}"
    value = cookie.partition("=")[2].partition(";")[0]
    foreign.client.set_cookie(name, value, domain="cds.example.org", path=path.rstrip("/"))
    with pytest.raises(HookError) as caught:
        foreign.session(mine)
    assert caught.value.status == 401
    for identifier in ("x" * 43, "short", "../" * 14 + "a"):
        with pytest.raises(HookError) as caught:
            browser._at(f"/app/{identifier}/", lambda *_: None)
        assert caught.value.status == 404


def test_our_public_keys_are_published_and_only_those(browser: Browser, ehr: Realm) -> None:
    keys = browser.get("/.well-known/jwks.json").get_json()["keys"]
    assert sorted(key["alg"] for key in keys) == ["ES384", "RS384"], "each once, also when two clients share it"
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(itertools.chain(*keys))
    assert all(key["use"] == "sig" and key["kid"] for key in keys)


def test_a_launch_is_audited_without_naming_anybody(app: Flask, browser: Browser, ehr: Realm) -> None:
    browser.launch(ehr)
    store = app.extensions["riskcards"].store
    entry = store.audit_entries("smart-launch")[-1]
    assert entry.body["client"] == "asymmetric"
    assert entry.body["patient_hash"] == store.patient_hash("walter")
    assert "walter" not in str(entry)


def test_nothing_secret_reaches_the_log(
    browser: Browser, ehr: Realm, realms: dict[str, Realm], caplog: pytest.LogCaptureFixture
) -> None:
    """Codes, tokens, secrets and the patient through good launches and bad ones, at DEBUG (H1)."""
    with caplog.at_level(logging.DEBUG):
        for realm in realms.values():
            browser.chart(browser.launch(realm))
        for wrong in ({"id_token": {"nonce": "x"}}, {"token": {"patient": ...}}, {"token_status": 500}):
            ehr.wrong = wrong
            browser.launch(ehr)
    assert "launch client=" in caplog.text
    for canary in CANARIES:
        assert canary not in caplog.text
