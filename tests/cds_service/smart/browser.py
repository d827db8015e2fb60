"""A clinician's browser: keeps cookies by their paths, follows a launch to its end."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cds_service.smart.session import SmartSession, chart_of, open_session
from fhir_mapping import PatientRecord
from tests.cds_service.smart.authority import Realm

BASE = "https://cds.example.org"


class Browser:
    """Browser(app).launch(ehr, "for-walter") -> the callback's answer"""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()

    def get(self, path: str, **query: str) -> TestResponse:
        return self.client.get(f"{path}?{urlencode(query)}" if query else path, base_url=BASE)

    def begin(self, ehr: Realm, launch: str | None) -> TestResponse:
        return self.get("/launch", iss=ehr.base, **({"launch": launch} if launch else {}))

    def launch(self, ehr: Realm, launch: str | None = "for-walter") -> TestResponse:
        begun = self.begin(ehr, launch)
        if begun.status_code != 303:
            return begun
        return self.get("/smart/callback", **ehr.authorize(begun.headers["Location"]))

    def session(self, answer: TestResponse) -> SmartSession:
        """As a page below /app would open it, with the cookies this browser sends there."""
        return self._at(answer.headers["Location"], lambda parts, found: found)

    def chart(self, answer: TestResponse) -> PatientRecord:
        return self._at(answer.headers["Location"], chart_of)

    def _at(self, path: str, then: Any) -> Any:
        with self.app.test_request_context(path, base_url=BASE, headers={"Cookie": self.cookies(path)}):
            parts = self.app.extensions["riskcards"]
            return then(parts, open_session(parts, path.split("/")[2], request))

    def cookies(self, path: str) -> str:
        """The Cookie header this browser would send to a path."""
        kept = self.client._cookies or {}
        sent = [cookie for cookie in kept.values() if path.startswith(cookie.path)]
        return "; ".join(f"{cookie.key}={cookie.value}" for cookie in sent)
