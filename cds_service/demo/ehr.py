"""The simulator's own SMART launch: an authorization server and a FHIR server over the ward, for the app in its frame.

    GET  /demo/fhir/.well-known/smart-configuration     GET  /demo/fhir/{read or search}
    GET  /demo/auth/authorize    POST /demo/auth/token    GET  /demo/auth/jwks
    POST /demo/api/launch/{patient}                     {"iss", "launch"}, as an EHR adds them to a card's smart link

The clinician is logged in already and has said yes, so nobody is asked; everything else is as SMART 2.2 has it: PKCE,
one use of each code, tokens that read one patient.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Blueprint, Response, redirect, request
from jwt.algorithms import ECAlgorithm

from cds_hooks import HookError
from cds_hooks.blueprint import json_response
from cds_service.demo.requests import USER
from cds_service.demo.ward.chart import ChartError
from cds_service.demo.ward.patients import DemoWard
from cds_service.smart.launch import CALLBACK, challenge

CLIENT_ID = "riskcards-demo"
LAUNCH_SECONDS, TOKEN_SECONDS = 300, 3600
_KID = "demo-ehr"


@dataclass
class DemoEhr:
    """What the EHR at `address` remembers between the steps of a launch: each secret once, and not for long."""

    address: str
    ward: DemoWard
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()), repr=False)
    _kept: dict[str, tuple[float, Mapping[str, str]]] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=Lock, repr=False)

    @property
    def iss(self) -> str:
        return f"{self.address}/demo/fhir"

    @property
    def redirect_uri(self) -> str:
        return f"{self.address}{CALLBACK}"

    def keep(self, kind: str, seconds: float, about: Mapping[str, str]) -> str:
        """A new secret of a kind that stands for `about`."""
        now, secret = time.time(), secrets.token_urlsafe(24)
        with self._lock:
            for name in [name for name, (until, _) in self._kept.items() if until < now]:
                del self._kept[name]
            self._kept[f"{kind} {secret}"] = (now + seconds, about)
        return secret

    def look(self, kind: str, secret: str) -> Mapping[str, str] | None:
        until, about = self._kept.get(f"{kind} {secret}", (0.0, {}))
        return about if until > time.time() else None

    def take(self, kind: str, secret: str) -> Mapping[str, str] | None:
        """Once only."""
        with self._lock:
            until, about = self._kept.pop(f"{kind} {secret}", (0.0, {}))
        return about if until > time.time() else None

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.iss, "sub": USER, "aud": CLIENT_ID, "iat": now, "exp": now + LAUNCH_SECONDS}
        more = {"nonce": nonce} if nonce else {}
        return jwt.encode(
            {**claims, **more, "fhirUser": f"{self.iss}/{USER}"}, self.key, algorithm="ES384", headers={"kid": _KID}
        )


def ehr_routes(ehr: DemoEhr) -> Blueprint:
    """Routes of the simulator's authorization server and FHIR server."""
    routes, views = Blueprint("demo_ehr", __name__, url_prefix="/demo"), _Views(ehr)
    routes.add_url_rule("/api/launch/<patient>", "launch", views.launch, methods=["POST"])
    routes.add_url_rule("/fhir/.well-known/smart-configuration", "configuration", views.configuration)
    routes.add_url_rule("/auth/jwks", "jwks", views.jwks)
    routes.add_url_rule("/auth/authorize", "authorize", views.authorize)
    routes.add_url_rule("/auth/token", "token", views.token, methods=["POST"])
    routes.add_url_rule("/fhir/<path:query>", "fhir", views.fhir)
    return routes


@dataclass(frozen=True, slots=True)
class _Views:
    """The views of one EHR."""

    ehr: DemoEhr

    def launch(self, patient: str) -> Response:
        if patient not in self.ehr.ward.patients:
            raise HookError(404, "not-found", "no such patient in this demo")
        return json_response(
            {"iss": self.ehr.iss, "launch": self.ehr.keep("launch", LAUNCH_SECONDS, {"patient": patient})}
        )

    def configuration(self) -> Response:
        return json_response(
            {
                "issuer": self.ehr.iss,
                "jwks_uri": f"{self.ehr.address}/demo/auth/jwks",
                "authorization_endpoint": f"{self.ehr.address}/demo/auth/authorize",
                "token_endpoint": f"{self.ehr.address}/demo/auth/token",
                "capabilities": ["launch-ehr", "client-public", "sso-openid-connect", "context-ehr-patient",
                                 "context-ehr-encounter", "context-banner", "permission-patient", "permission-v2"],
                "scopes_supported": ["openid", "fhirUser", "launch", "patient/*.rs"],
                "code_challenge_methods_supported": ["S256"],
            }
        )  # fmt: skip

    def jwks(self) -> Response:
        public = ECAlgorithm.to_jwk(self.ehr.key.public_key(), as_dict=True)
        return json_response({"keys": [{**public, "kid": _KID, "use": "sig", "alg": "ES384"}]})

    def authorize(self) -> Any:
        asked = request.args
        launched = self.ehr.take("launch", asked.get("launch", ""))
        if asked.get("client_id") != CLIENT_ID or asked.get("redirect_uri") != self.ehr.redirect_uri:
            # Never back to an address that is not registered.
            raise HookError(400, "value", "no app of that client_id and redirect_uri is registered in this demo")
        if launched is None or asked.get("aud") != self.ehr.iss or asked.get("code_challenge_method") != "S256":
            return redirect(_back(self.ehr, {"error": "invalid_request", "state": asked.get("state", "")}))
        about = {name: asked.get(name, "") for name in ("scope", "nonce", "code_challenge")}
        code = self.ehr.keep("code", LAUNCH_SECONDS, {**launched, **about})
        return redirect(_back(self.ehr, {"code": code, "state": asked.get("state", ""), "iss": self.ehr.iss}))

    def token(self) -> Response:
        form = request.form
        about = self.ehr.take("code", form.get("code", ""))
        proof = challenge(form.get("code_verifier", ""))
        known = form.get("client_id") == CLIENT_ID and form.get("redirect_uri") == self.ehr.redirect_uri
        if about is None or not known or not hmac.compare_digest(proof, about["code_challenge"]):
            return json_response({"error": "invalid_grant"}, 400)
        return json_response(_granted(self.ehr, about))

    def fhir(self, query: str) -> Response:
        granted = self.ehr.look("token", request.headers.get("Authorization", "").removeprefix("Bearer "))
        if granted is None:
            raise HookError(401, "login", "a token of a launch is required")
        text = request.query_string.decode()
        if text and request.args.getlist("patient") != [granted["patient"]]:
            raise HookError(403, "forbidden", "this token reads one patient")
        try:
            found = self.ehr.ward.patients[granted["patient"]].chart.query(f"{query}?{text}" if text else query)
        except (ChartError, ValueError) as error:
            raise HookError(400, "not-supported", str(error)) from None
        if found is None:
            raise HookError(404, "not-found", "no such resource in this chart")
        return json_response(found)


def _granted(ehr: DemoEhr, about: Mapping[str, str]) -> dict[str, Any]:
    patient = ehr.ward.patients[about["patient"]]
    answer = {
        "access_token": ehr.keep("token", TOKEN_SECONDS, {"patient": patient.id}),
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "scope": about["scope"],
        "patient": patient.id,
        # The simulator's own banner stays above the frame.
        "need_patient_banner": False,
    }
    if patient.stay is not None:
        answer["encounter"] = patient.stay
    if "openid" in about["scope"].split():
        answer["id_token"] = ehr.id_token(about["nonce"])
    return answer


def _back(ehr: DemoEhr, parameters: Mapping[str, str]) -> str:
    return f"{ehr.redirect_uri}?{urlencode(parameters)}"
