"""The user's identity from the id_token (OpenID Connect Core, section 3.1.3.7; SMART 2.2, "fhirUser")."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from cds_hooks import ALGORITHMS, KeyRefusedError, VerifyingKey, read_keys
from cds_service.net.outbound import Outbound
from cds_service.oauth.clients import SmartClient, canonical
from cds_service.oauth.discovery import AuthorizationServer, fetch_json, key_set_url
from cds_service.oauth.errors import LaunchRefusedError

MAX_ID_TOKEN = 16 * 1024
LEEWAY = 60
_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson|Person)/[A-Za-z0-9\-.]{1,64}\Z")
# These claims are checked here, with a reason for the log; the library checks the signature.
_SIGNATURE_ONLY: Any = dict.fromkeys(
    ("verify_aud", "verify_exp", "verify_iat", "verify_nbf", "verify_iss", "verify_jti", "verify_sub"), False
)


def user_of(
    id_token: str, client: SmartClient, outbound: Outbound, server: AuthorizationServer, nonce: str, iss: str
) -> str | None:
    """The `fhirUser` as a reference at this FHIR server, None where the token names none. Raises LaunchRefusedError."""
    if len(id_token) > MAX_ID_TOKEN:
        raise _refused("too-large")
    try:
        header = jwt.get_unverified_header(id_token)
    except PyJWTError:
        raise _refused("not-a-token") from None
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS or "crit" in header:
        raise _refused("algorithm")
    key = _key(header.get("kid"), str(algorithm), client, outbound, server)
    try:
        claims = jwt.decode(id_token, key.public, algorithms=[str(algorithm)], options=_SIGNATURE_ONLY)
    except (PyJWTError, ValueError, TypeError):
        raise _refused("signature") from None
    _check(claims, client.client_id, server.issuer or iss, nonce)
    return _reference(claims.get("fhirUser") or claims.get("profile"), iss)


def _key(
    kid: Any, algorithm: str, client: SmartClient, outbound: Outbound, server: AuthorizationServer
) -> VerifyingKey:
    url = key_set_url(client, outbound, server)
    if not url:
        raise _refused("no-jwks-uri")
    fitting = [key for key in _keys(fetch_json(outbound, url, "key-set")) if key.fits(algorithm)]
    # Some servers name no key: then exactly one key of the set must fit.
    named = fitting if kid is None else [key for key in fitting if key.kid == kid]
    if len(named) != 1:
        raise _refused("key")
    return named[0]


def _keys(jwks: Mapping[str, Any]) -> list[VerifyingKey]:
    """The usable keys; a set may also have keys of other types or uses, and keys without a `kid`."""
    listed = jwks.get("keys")
    found: list[VerifyingKey] = []
    for number, item in enumerate(listed if isinstance(listed, list) else ()):
        named = {"kid": f"unnamed {number}", **item} if isinstance(item, dict) else item
        try:
            found += read_keys({"keys": [named]}).values()
        except KeyRefusedError:
            continue
    return found


def _check(claims: Mapping[str, Any], client_id: str, issuer: str, nonce: str) -> None:
    now = time.time()
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    if canonical(str(claims.get("iss"))) != canonical(issuer):
        raise _refused("issuer")
    if client_id not in listed or claims.get("azp", client_id) != client_id:
        raise _refused("audience")
    # With several audiences `azp` must name the one that requested the token.
    if len(listed) > 1 and "azp" not in claims:
        raise _refused("audience")
    for name in ("exp", "iat"):
        if isinstance(claims.get(name), bool) or not isinstance(claims.get(name), int | float):
            raise _refused(f"{name}-missing")
    if claims["exp"] + LEEWAY <= now:
        raise _refused("expired")
    if claims["iat"] - LEEWAY > now:
        raise _refused("not-yet-valid")
    if claims.get("nonce") != nonce:
        raise _refused("nonce")


def _reference(given: Any, iss: str) -> str | None:
    """
    >>> _reference("https://ehr.example/fhir/Practitioner/7", "https://ehr.example/fhir")
    'Practitioner/7'
    >>> _reference("https://elsewhere.example/Practitioner/7", "https://ehr.example/fhir") is None
    True
    """
    if not isinstance(given, str):
        return None
    relative = given.removeprefix(f"{canonical(iss)}/")
    return relative if _USER.match(relative) else None


def _refused(reason: str) -> LaunchRefusedError:
    advice = "The EHR's statement of who is logged in could not be verified. Launch the app again from the EHR."
    return LaunchRefusedError(f"id-token-{reason}", advice)
