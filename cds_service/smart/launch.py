"""The two halves of a launch (SMART App Launch 2.2; RFC 6749, 7636, 9207): redirect to the login, and callback.

The data between them (PKCE verifier, nonce, endpoints) are stored under the `state` for ten minutes and used once. Each
launch has its own cookie; the state is only valid together with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from flask import Response

from cds_hooks import FHIR_ID
from cds_service.oauth.discovery import AuthorizationServer
from cds_service.oauth.errors import LaunchRefusedError
from cds_service.oauth.grant import Grant, exchange_code
from cds_service.oauth.identity import user_of
from cds_service.oauth.scopes import launch_scopes, user_scopes
from cds_service.oauth.vault import fingerprint
from cds_service.smart.parts import Registration, SmartParts
from cds_service.smart.session import PATIENT_APP, WARD_LIST, SmartSession, new_session, set_cookie
from cds_service.smart.style import style_of

KIND = "launch"
STATE_LIFETIME = timedelta(minutes=10)
MAX_PARAMETER = 4096
MAX_CONTEXT = 20
CALLBACK = "/smart/callback"
_RESOURCE_TYPE = re.compile(r"[A-Za-z]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Returned:
    """The parameters of a callback request."""

    state: str
    code: str
    iss: str
    error: str
    description: str


def begin(smart: SmartParts, iss: str, launch: str, response: Response, app: str = PATIENT_APP) -> str:
    """Returns the authorization URL of an EHR or (`launch` empty) standalone launch; sets a cookie on `response`.

    `app` is what is launched: the app of one patient, or the ward list of a user.

    Raises LaunchRefusedError, StoreError.
    """
    registration = smart.registration(iss)
    client = registration.client
    server = smart.server_of(registration)
    if not server.authorization_endpoint or not server.token_endpoint:
        advice = "The EHR's smart-configuration has no authorization or token endpoint. Contact your EHR support."
        raise LaunchRefusedError("no-endpoints", advice, status=502)
    scopes = launch_scopes if app == PATIENT_APP else user_scopes
    scope = " ".join(scopes(server, from_ehr=bool(launch), configured=client.scopes))
    state, cookie, nonce, verifier = (secrets.token_urlsafe(size) for size in (32, 32, 32, 48))
    kept = {
        "app": app,
        "iss": iss,
        "issuer": server.issuer,
        "token_endpoint": server.token_endpoint,
        "jwks_uri": server.jwks_uri,
        "scope": scope,
        "cookie": fingerprint(cookie),
        # Without the openid scope an id_token is not checked.
        "nonce": nonce if "openid" in scope.split() else "",
        "verifier": verifier,
    }
    smart.vault.put(KIND, state, kept, datetime.now(UTC) + STATE_LIFETIME)
    set_cookie(smart, response, launch_cookie(state), cookie, CALLBACK, STATE_LIFETIME)
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": smart.redirect_uri,
        "scope": scope,
        "state": state,
        "aud": iss,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
        **({"launch": launch} if launch else {}),
        **({"nonce": nonce} if kept["nonce"] else {}),
    }
    mark = "&" if "?" in server.authorization_endpoint else "?"
    return f"{server.authorization_endpoint}{mark}{urlencode(asked)}"


def finish(smart: SmartParts, returned: Returned, cookies: Mapping[str, str], response: Response) -> SmartSession:
    """Returns the session of a completed launch; sets a cookie on `response`. Raises LaunchRefusedError, StoreError."""
    kept = smart.vault.take(KIND, returned.state) if returned.state else None
    cookie = cookies.get(launch_cookie(returned.state), "")
    if kept is None or not hmac.compare_digest(fingerprint(cookie), kept["cookie"]):
        advice = (
            "This launch has expired, was already used, or began in another browser. Launch the app again from the EHR."
        )
        raise LaunchRefusedError("state" if kept is None else "cookie", advice)
    registration = smart.registration(kept["iss"])
    server = AuthorizationServer(kept["issuer"], "", kept["token_endpoint"], kept["jwks_uri"])
    if returned.iss and server.issuer and returned.iss != server.issuer:
        # Mix-up attack: the response of another authorization server (RFC 9207).
        raise LaunchRefusedError(
            "answer-of-another-issuer", "The answer came from another server. Launch the app again from the EHR."
        )
    if returned.error:
        raise LaunchRefusedError(
            "ehr-refused", f"The EHR did not grant access: {returned.error}. {returned.description}"
        )
    if not returned.code:
        raise LaunchRefusedError(
            "no-code", "The EHR's answer has no authorization code. Launch the app again from the EHR."
        )
    client, outbound = registration.client, registration.outbound
    grant = exchange_code(
        client, outbound, server.token_endpoint, returned.code, smart.redirect_uri, kept["verifier"], kept["scope"]
    )
    about = _about(grant, registration, server, kept)
    session, _ = new_session(smart, response, server.token_endpoint, grant, **about)
    response.delete_cookie(
        launch_cookie(returned.state), path=smart.cookie_path(CALLBACK), secure=smart.secure, httponly=True,
        samesite="None" if smart.secure else "Lax", partitioned=smart.secure,
    )  # fmt: skip
    patient = {"patient_hash": smart.store.patient_hash(session.patient_id)} if session.patient_id else {}
    details = {"client": client.name, "app": session.app, "scopes": list(session.scopes)}
    smart.store.record_event("smart-launch", fingerprint(session.id), details | patient)
    return session


def launch_cookie(state: str) -> str:
    """The cookie name of a launch, so that concurrent launches do not overwrite each other."""
    return f"riskcards-launch-{fingerprint(state)[:16]}"


def challenge(verifier: str) -> str:
    """RFC 7636, section 4.2; its appendix B:

    >>> challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _about(
    grant: Grant, registration: Registration, server: AuthorizationServer, kept: Mapping[str, Any]
) -> dict[str, Any]:
    """The session data besides id and scopes.

    Raises LaunchRefusedError without a patient, or for a ward list without a user.
    """
    client, outbound, iss = registration.client, registration.outbound, kept["iss"]
    app = kept.get("app", PATIENT_APP)
    user = None
    if grant.id_token and kept["nonce"]:
        user = user_of(grant.id_token, client, outbound, server, kept["nonce"], iss)
    context = grant.context
    if app == WARD_LIST and user is None:
        advice = (
            "The EHR did not say who you are, and the ward list records who looks at it. Your EHR support can allow "
            "the scopes openid and fhirUser for this app."
        )
        raise LaunchRefusedError("no-user", advice, status=403)
    patient, encounter = ("", None) if app == WARD_LIST else _patient_and_stay(context)
    return {
        "app": app,
        "iss": iss,
        "client": client.name,
        "patient_id": patient,
        "encounter_id": encounter,
        "user": user,
        # The EHR shows its own banner only if it says so.
        "need_patient_banner": context.get("need_patient_banner") is not False,
        "style": style_of(context.get("smart_style_url"), iss, server.token_endpoint, outbound),
        "frame_ancestors": client.frame_ancestors,
        "fhir_context": _references(context.get("fhirContext")),
        "intent": _short(context.get("intent")),
    }


def _patient_and_stay(context: Mapping[str, Any]) -> tuple[str, str | None]:
    patient = context.get("patient")
    if not isinstance(patient, str) or not FHIR_ID.match(patient):
        advice = "The EHR did not select a patient. Open a patient's chart and launch the app from there."
        raise LaunchRefusedError("no-patient", advice)
    encounter = context.get("encounter")
    if encounter is not None and not (isinstance(encounter, str) and FHIR_ID.match(encounter)):
        raise LaunchRefusedError("encounter", "The EHR sent an invalid encounter id.")
    return patient, encounter


def _references(given: Any) -> tuple[str, ...]:
    """`fhirContext`: the relative references in it, at most twenty."""
    listed = given if isinstance(given, list) else []
    found = (item.get("reference") for item in listed if isinstance(item, dict))
    return tuple(reference for reference in found if isinstance(reference, str) and _is_reference(reference))[
        :MAX_CONTEXT
    ]


def _is_reference(text: str) -> bool:
    kind, _, identifier = text.partition("/")
    return bool(_RESOURCE_TYPE.match(kind) and FHIR_ID.match(identifier))


def _short(given: Any) -> str | None:
    return given if isinstance(given, str) and 0 < len(given) <= 64 and given.isprintable() else None
