"""The scopes that are requested: only what the app reads, in the version the server supports (SMART 2.2, "Scopes").

Version 2 writes `patient/Observation.rs`, version 1 `patient/Observation.read`. A server states its version by
`permission-v2`, `permission-v1` and `scopes_supported`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cds_service.oauth.discovery import AuthorizationServer

READ = (
    "Patient", "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure", "DocumentReference",
    "Composition", "Binary",
)  # fmt: skip
WARD_READ = ("Patient", "Encounter", "Location")
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
    """Scopes of an EHR launch (`launch`) or a standalone launch; a site's own list wins.

    A standalone launch asks for a patient (`launch/patient`), and for an encounter where the server can give one
    (`context-standalone-encounter`, SMART 2.2, "Capability Sets").
    """
    wanted = configured or (*_identity(server), *(f"patient/{kind}.rs" for kind in READ))
    context = ("launch",) if from_ehr else ("launch/patient", *_standalone_encounter(server, configured))
    rest = (scope for scope in wanted if scope not in {"launch", "launch/patient", "launch/encounter"})
    return in_server_version((*context, *rest), server)


def user_scopes(server: AuthorizationServer, *, from_ehr: bool, configured: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Scopes of the ward list, which has no patient in context; of a site's own list those of `user/` and of identity.

    >>> server = AuthorizationServer("", "", "", "", frozenset({"permission-v2"}))
    >>> user_scopes(server, from_ehr=True, configured=("patient/*.rs", "user/Patient.rs"))
    ('launch', 'openid', 'fhirUser', 'user/Patient.rs')
    """
    own = tuple(scope for scope in configured if scope.startswith("user/"))
    wanted = own or tuple(f"user/{kind}.rs" for kind in WARD_READ)
    # Without an identity there would be no entry of who looked: it is asked for whatever the server states.
    context = ("launch",) if from_ehr else ()
    return in_server_version((*context, "openid", "fhirUser", *_identity(server), *wanted), server)


def system_scopes(
    server: AuthorizationServer, configured: tuple[str, ...] = (), also: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Scopes of backend services; of a site's own list only those of `system/`. `also` are asked for in any case."""
    own = tuple(scope for scope in configured if scope.startswith("system/"))
    return in_server_version((*(own or tuple(f"system/{kind}.rs" for kind in READ)), *also), server)


def in_server_version(scopes: Iterable[str], server: AuthorizationServer) -> tuple[str, ...]:
    """The scopes in the server's version, each once.

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


def _standalone_encounter(server: AuthorizationServer, configured: tuple[str, ...]) -> tuple[str, ...]:
    offered = "context-standalone-encounter" in server.capabilities
    offered = offered or "launch/encounter" in server.scopes_supported | set(configured)
    return ("launch/encounter",) if offered else ()


def _identity(server: AuthorizationServer) -> tuple[str, ...]:
    """Scopes for the user's identity and online access, if the server supports them or states no scopes."""
    stated = server.capabilities | server.scopes_supported
    identity = ("openid", "fhirUser") if not stated or stated & {"sso-openid-connect", "openid"} else ()
    online = ("online_access",) if stated & {"permission-online", "online_access"} else ()
    return (*identity, *online)
