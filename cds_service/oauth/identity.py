"""The user's identity from the id_token (OpenID Connect Core, section 3.1.3.7; SMART 2.2, "fhirUser")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from cds_hooks import ALGORITHMS, KeyRefusedError, VerifyingKey, read_keys
from cds_service.net.outbound import Outbound
from cds_service.oauth.clients import SmartClient, canonical
from cds_service.oauth.discovery import AuthorizationServer, fetch_json, key_set_url
from cds_service.oauth.errors import LaunchRefusedError

MAX_ID_TOKEN = 16 * 1024
LEEWAY = 60
_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson|Person)/[A-Za-z0-9\-.]{1,64}\Z")
# PyJWT checks these; issuers are compared here, since some servers end theirs with a slash.
_OPTIONS: Any = {"require": ["iss", "aud", "exp", "iat", "nonce"], "verify_iss": False, "verify_sub": False}
_REASONS: Mapping[type[Exception], str] = {
    ExpiredSignatureError: "expired",
    ImmatureSignatureError: "not-yet-valid",
    InvalidAudienceError: "audience",
    InvalidSignatureError: "signature",
}


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
        claims = jwt.decode(
            id_token,
            key.public,
            algorithms=[str(algorithm)],
            audience=client.client_id,
            leeway=LEEWAY,
            options=_OPTIONS,
        )
    except MissingRequiredClaimError as error:
        raise _refused(f"{error.claim}-missing") from None
    except (PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise _refused(_REASONS.get(type(error), "claims")) from None
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
    """Checks what OpenID Connect asks beyond JWT (section 3.1.3.7, points 2, 4, 5 and 11)."""
    if canonical(str(claims["iss"])) != canonical(issuer):
        raise _refused("issuer")
    # With several audiences `azp` must name the one that requested the token.
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise _refused("audience")
    if claims["nonce"] != nonce:
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
