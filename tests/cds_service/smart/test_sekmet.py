"""Launches in Chromium over a FHIR server of another hand (sekmet-fhir); its authorization server errs when told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.conftest import EXAMPLE_OF, charts
from tests.cds_service.smart.sites import EHR, framed, two_sites
from tests.chromium import patient_page
from tests.sekmet import sekmet

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def fhir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Both patients; ids are made their own, because each chart of ours calls its stay "stay"."""
    with sekmet(tmp_path_factory.mktemp("sekmet"), map(_own_ids, charts().items())) as url:
        yield url


def _own_ids(chart: tuple[str, Any]) -> list[dict[str, Any]]:
    name, found = chart
    text = json.dumps(found.resources)
    for resource in found.resources:
        if resource["resourceType"] != "Patient":
            kind, old = resource["resourceType"], resource["id"]
            text = text.replace(f'"{kind}/{old}"', f'"{kind}/{name}-{old}"').replace(
                f'"id": "{old}"', f'"id": "{name}-{old}"'
            )
    resources: list[dict[str, Any]] = json.loads(text)
    return resources


@pytest.fixture(scope="module")
def context(app: Flask, realms: dict[str, Realm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with two_sites(app, realms, tmp_path_factory.mktemp("tls")) as opened:
        yield opened


def over(realm: Realm, fhir: str, patient: str, **wrong: Any) -> None:
    stay = "stay" if patient == "walter" else "icu"
    context = {"patient": patient, "encounter": f"{patient}-{stay}"}
    realm.wrong = {"fhir_behind": fhir, "token": context | wrong.pop("token", {}), **wrong}


@pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric", "rsa"])
def test_every_kind_of_client_is_launched_and_reads_the_chart(
    context: Any, ehr: Realm, realms: dict[str, Realm], fhir: str, kind: str
) -> None:
    over(realms[kind], fhir, "walter")
    page, frame = framed(context, "for-walter", kind)
    assert "%" in frame.locator("[data-task=readmission_30d] .figure").inner_text()
    assert frame.locator(".driver").count() > 3
    assert {query.partition("?")[0] for query, _ in realms[kind].asked} >= {
        "Patient/walter",
        "Observation",
        "Encounter",
    }
    page.close()


def test_two_patients_side_by_side_are_two(context: Any, ehr: Realm, realms: dict[str, Realm], fhir: str) -> None:
    reported = []
    for patient in EXAMPLE_OF:
        over(ehr, fhir, patient)
        reported.append(framed(context, f"for-{patient}"))
    words = [frame.locator(".banner").inner_text() for _, frame in reported]
    assert words[0] != words[1]
    for (page, frame), before in zip(reported, words, strict=True):
        frame.locator(".banner").evaluate("() => location.reload()")
        frame.locator("#now").wait_for()
        assert frame.locator(".banner").inner_text() == before
        page.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"callback": {"state": "another"}}, "could not be opened"),
        ({"callback": {"iss": "https://evil.example"}}, "could not be opened"),
        ({"id_token": {"nonce": "another"}}, "could not be opened"),
        ({"id_token": {"aud": "another client"}}, "could not be opened"),
        ({"token": {"patient": ...}}, "could not be opened"),
        ({"token": {"token_type": "mac"}}, "could not be opened"),
        ({"forbidden": ("Patient",)}, "could not be read"),
    ],
)  # fmt: skip
def test_what_the_authorization_server_gets_wrong_is_said_and_nothing_is_shown(
    context: Any, ehr: Realm, fhir: str, wrong: dict[str, Any], said: str
) -> None:
    over(ehr, fhir, "ines", **wrong)
    page = patient_page(context)
    page.goto(f"https://{EHR}/asymmetric/for-ines")
    frame = page.frame_locator("iframe")
    frame.locator("[role=alert]").wait_for()
    assert said in frame.locator("body").inner_text()
    assert frame.locator(".figure").count() == 0
    assert not [query for query, _ in ehr.asked if query.startswith("Observation")] or said == "could not be read"
    page.close()
