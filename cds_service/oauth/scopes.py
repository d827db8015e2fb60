"""Which scopes are asked for: what the app reads and no more, in the words the server knows (SMART 2.2, "Scopes").

Version 2 says `patient/Observation.rs`, version 1 `patient/Observation.read`; a server tells by `permission-v2`,
`permission-v1` and `scopes_supported` which it speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cds_service.oauth.discovery import AuthorizationServer

READ = (
    "Patient", "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure", "DocumentReference",
    "Composition", "Binary",
)  # fmt: skip
_V2 = re.compile(r"(patient|user|system)/([A-Za-z]+|\*)\.(c?r?u?d?s?)(\?.*)?\Z")
_V1 = re.compile(r"(patient|user|system)/([A-Za-z]+|\*)\.(read|write|\*)\Z")


def supports_v2_scopes(server: AuthorizationServer) -> bool:
    """
    >>> supports_v2_scopes(AuthorizationServer("", "", "", "", frozenset({"permission-v1", "permission-v2"})))
    True
    >>> supports_v2_scopes(AuthorizationServer("", "", "", "", scopes_supported=frozenset({"patient/*.rs"})))
    True
    >>> supports_v2_scopes(AuthorizationServer("", "", "", ""))
    False
    """
    if {"permission-v1", "permission-v2"} & server.capabilities:
        return "permission-v2" in server.capabilities
    return any(_V2.match(scope) for scope in server.scopes_supported)


def launch_scopes(server: AuthorizationServer, *, from_ehr: bool, configured: tuple[str, ...] = ()) -> tuple[str, ...]:
    """For an EHR launch (`launch`) or a standalone one (`launch/patient`); a site's own list comes before ours."""
    wanted = configured or (*_identity(server), *(f"patient/{kind}.rs" for kind in READ))
    context = "launch" if from_ehr else "launch/patient"
    rest = (scope for scope in wanted if scope not in {"launch", "launch/patient"})
    return in_server_version((context, *rest), server)


def system_scopes(server: AuthorizationServer, configured: tuple[str, ...] = ()) -> tuple[str, ...]:
    """For backend services. Of a site's own list only the `system/` ones mean anything there."""
    own = tuple(scope for scope in configured if scope.startswith("system/"))
    return in_server_version(own or tuple(f"system/{kind}.rs" for kind in READ), server)


def in_server_version(scopes: Iterable[str], server: AuthorizationServer) -> tuple[str, ...]:
    """Each once, in the server's version.

    >>> server = AuthorizationServer("", "", "", "", frozenset({"permission-v1"}))
    >>> in_server_version(["launch", "patient/Observation.rs"], server)
    ('launch', 'patient/Observation.read')
    """
    said = scopes if supports_v2_scopes(server) else (_as_v1(scope) for scope in scopes)
    return tuple(dict.fromkeys(said))


def _as_v1(scope: str) -> str:
    found = _V2.match(scope)
    if found is None or _V1.match(scope):
        return scope
    context, kind, letters, _ = found.groups()
    reads, writes = bool(set(letters) & set("rs")), bool(set(letters) & set("cud"))
    return f"{context}/{kind}.{'*' if reads and writes else 'write' if writes else 'read'}"


def _identity(server: AuthorizationServer) -> tuple[str, ...]:
    """Who is using it, and staying online as long as they are: asked of servers that know of it, or do not tell."""
    told = server.capabilities | server.scopes_supported
    who = ("openid", "fhirUser") if not told or told & {"sso-openid-connect", "openid"} else ()
    online = ("online_access",) if told & {"permission-online", "online_access"} else ()
    return (*who, *online)
