"""The session of one launched app: user, patient, and the chart that the user may read.

Used by the pages under `/app/{session}/`:

    session = open_session(parts, session_id, request)      # HookError 401, 404
    record = chart_of(parts, session)                       # HookError 401, 412, 502, 503

The id stands in the path and says nothing by itself: each launch has a cookie of its own, named after its id and sent
only below its path, so two charts open side by side never mix. Tokens stay in the vault; no page ever holds one.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from flask import Request, Response

from cds_hooks import HookError
from cds_service.hooks.hook_handler import HookHandler
from cds_service.oauth.errors import LaunchRefusedError
from cds_service.oauth.grant import Grant, refresh
from cds_service.oauth.vault import fingerprint
from cds_service.smart.chart import FetchedChart, fetch_chart
from cds_service.smart.parts import SmartParts
from fhir_mapping import PatientRecord

KIND = "session"
PATIENT_APP, WARD_LIST = "app", "ward"
"""What a session is of, and the first part of its path: one patient's app, or a user's ward list."""
# One shift; after that the app is launched again.
LONGEST = timedelta(hours=8)
# Tokens are renewed this early, so that none expires while a chart is read.
EARLY_SECONDS = 30
LEASE_SECONDS = 10
_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_ENDED = "there is no such session, or it has ended: launch the app again from the EHR"


class SessionParts(Protocol):
    """The parts of the app (`app.extensions["riskcards"]`) that sessions need."""

    @property
    def smart(self) -> SmartParts | None: ...

    @property
    def handler(self) -> HookHandler: ...


@dataclass(frozen=True, slots=True)
class SmartSession:
    """One launch. `style` has validated CSS values by SMART's names; `user` is a reference such as Practitioner/7.

    A ward list has a user and no patient (`patient_id` is "").
    """

    id: str
    iss: str
    client: str
    patient_id: str
    encounter_id: str | None
    user: str | None
    scopes: tuple[str, ...]
    need_patient_banner: bool = True
    style: Mapping[str, str] = field(default_factory=dict)
    frame_ancestors: tuple[str, ...] = ()
    fhir_context: tuple[str, ...] = ()
    intent: str | None = None
    chosen: bool = False
    """Whether the user, and not the launch, chose the encounter."""
    app: str = PATIENT_APP


def choose_encounter(parts: SessionParts, session: SmartSession, encounter: str) -> None:
    """Makes this the encounter of a session that was launched without one. Raises HookError 404, 409, StoreError."""
    smart = parts.smart
    kept = _kept(smart, session.id)
    if smart is None or not (session.chosen or session.encounter_id is None):
        raise HookError(409, "conflict", "the EHR opened this app for one stay: choose another in the EHR")
    kept["session"] |= {"encounter_id": encounter, "chosen": True}
    smart.vault.replace(KIND, session.id, kept, datetime.fromisoformat(kept["ends"]))


def open_session(parts: SessionParts, session_id: str, request: Request, app: str = PATIENT_APP) -> SmartSession:
    """Returns the session of an id. Raises HookError 404 (no session), 401 (launched in another browser)."""
    kept = _kept(parts.smart, session_id)
    if kept["session"].get("app", PATIENT_APP) != app:
        raise HookError(404, "not-found", _ENDED)
    cookie = request.cookies.get(cookie_name(session_id), "")
    if not hmac.compare_digest(fingerprint(cookie), kept["cookie"]):
        raise HookError(401, "login", "this session was opened in another browser: launch the app again from the EHR")
    return _session(kept["session"])


def chart_of(parts: SessionParts, session: SmartSession) -> PatientRecord:
    """Returns the patient's record, read now with the session's token: the data a card of this time is made from.

    Raises HookError 401 when access has ended, 412 when the chart cannot be used, 502 when it cannot be read.
    """
    return fetched_chart_of(parts, session).record()


def fetched_chart_of(parts: SessionParts, session: SmartSession) -> FetchedChart:
    """Returns the fetched chart, from which the record of any earlier time can be built. Raises HookError 401, 502."""
    smart, token, handler = parts.smart, access_token(parts, session), parts.handler
    if smart is None:
        raise HookError(404, "not-found", _ENDED)
    gateway = smart.registration(session.iss).gateway
    return fetch_chart(gateway, session.iss, token, session.patient_id, session.encounter_id, handler)


def access_token(parts: SessionParts, session: SmartSession) -> str:
    """Returns a valid access token of the session, renewed if needed. Raises HookError 401, 404, 503."""
    if parts.smart is None:
        raise HookError(404, "not-found", _ENDED)
    return _token(parts.smart, session.id)


def new_session(
    smart: SmartParts, response: Response, token_endpoint: str, grant: Grant, **about: Any
) -> tuple[SmartSession, Response]:
    """Returns a new session and sets its cookie on `response`. Raises StoreError."""
    session = SmartSession(id=secrets.token_urlsafe(32), scopes=grant.scopes, **about)
    cookie = secrets.token_urlsafe(32)
    began = datetime.now(UTC)
    ends = began + LONGEST if grant.refresh_token else min(began + LONGEST, datetime.fromtimestamp(grant.expires, UTC))
    kept = {
        "session": asdict(session),
        "cookie": fingerprint(cookie),
        "ends": ends.isoformat(),
        "endpoint": token_endpoint,
        "tokens": _tokens(grant),
    }
    smart.vault.put(KIND, session.id, kept, ends)
    set_cookie(smart, response, cookie_name(session.id), cookie, f"/{session.app}/{session.id}", ends - began)
    return session, response


def cookie_name(session_id: str) -> str:
    """The cookie name of a session."""
    return f"riskcards-{fingerprint(session_id)[:16]}"


def set_cookie(smart: SmartParts, response: Response, name: str, value: str, path: str, lifetime: timedelta) -> None:
    """Sets a cookie that works in the EHR's frame: SameSite=None and Partitioned, as the app is a third party there.

    Both need Secure, which plain http on this very machine has not; there the cookie is Lax.
    """
    response.set_cookie(
        name,
        value,
        max_age=lifetime,
        path=smart.cookie_path(path),
        secure=smart.secure,
        httponly=True,
        samesite="None" if smart.secure else "Lax",
        partitioned=smart.secure,
    )


def _kept(smart: SmartParts | None, session_id: str) -> dict[str, Any]:
    found = smart.vault.get(KIND, session_id) if smart is not None and _ID.match(session_id) else None
    if found is None:
        raise HookError(404, "not-found", _ENDED)
    return found


def _session(values: Mapping[str, Any]) -> SmartSession:
    lists = {name: tuple(values[name]) for name in ("scopes", "frame_ancestors", "fhir_context")}
    return SmartSession(**{**values, **lists})


def _tokens(grant: Grant) -> dict[str, Any]:
    return {
        "access_token": grant.access_token,
        "refresh_token": grant.refresh_token,
        "expires": grant.expires,
        "scopes": list(grant.scopes),
    }


def _grant(tokens: Mapping[str, Any]) -> Grant:
    return Grant(tokens["access_token"], tokens["expires"], tuple(tokens["scopes"]), tokens["refresh_token"])


def _token(smart: SmartParts, session_id: str) -> str:
    """Returns a valid access token, renewed if needed.

    Servers use up a refresh token with its first use: of several requests that need a new token one asks, the
    others wait for what it got.
    """
    deadline = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < deadline:
        kept = _kept(smart, session_id)
        grant = _grant(kept["tokens"])
        if grant.expires - EARLY_SECONDS > time.time() or grant.refresh_token is None:
            return grant.access_token
        lease_ends = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
        if smart.vault.put("lease", session_id, {}, lease_ends):
            try:
                return _renewed(smart, session_id)
            finally:
                smart.vault.drop("lease", session_id)
        time.sleep(0.1)
    raise HookError(503, "transient", "access could not be renewed in time", retry_after=5)


def _renewed(smart: SmartParts, session_id: str) -> str:
    """Renews the token under the lease, unless another request just did."""
    kept = _kept(smart, session_id)
    grant, registration = _grant(kept["tokens"]), smart.registration(kept["session"]["iss"])
    if grant.expires - EARLY_SECONDS > time.time():
        return grant.access_token
    try:
        new = refresh(registration.client, registration.outbound, kept["endpoint"], grant)
    except LaunchRefusedError as error:
        if error.status >= 500:
            raise HookError(503, "transient", error.advice, retry_after=5) from None
        smart.vault.drop(KIND, session_id)
        raise HookError(401, "login", "access has ended: launch the app again from the EHR") from None
    known = kept["session"]["patient_id"]
    if known and new.context.get("patient", known) != known:
        smart.vault.drop(KIND, session_id)
        raise HookError(401, "login", "the EHR now names another patient: launch the app again from the EHR")
    kept["tokens"] = _tokens(new)
    kept["session"]["scopes"] = list(new.scopes)
    smart.vault.replace(KIND, session_id, kept, datetime.fromisoformat(kept["ends"]))
    return new.access_token
