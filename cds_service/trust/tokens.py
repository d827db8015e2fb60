"""Verification of a client's token (CDS Hooks 3.0, "Authentication"; RFC 7519, RFC 8725)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import jwt
from jwt.exceptions import PyJWTError

from cds_hooks import HookError, parse_json
from cds_service.outbound import Networks, Outbound
from cds_service.store import Asker
from cds_service.trust.clients import CdsClient
from cds_service.trust.keys import FetchedKeys, VerifyingKey

MAX_TOKEN = 8 * 1024
MAX_NAME = 1024
MAX_JTI = 128
LEEWAY = 60
_TIMES = ("exp", "iat")
# Three parts of base64url without padding (RFC 7515, section 7.1): many readers, PyJWT's too, let other signs by.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
# Claims are checked here, stricter than the library does; it checks the signature.
_SIGNATURE_ONLY: Any = dict.fromkeys(
    ("verify_aud", "verify_exp", "verify_iat", "verify_nbf", "verify_iss", "verify_jti", "verify_sub"), False
)
# An extension we do not know must be understood (`crit`), or changes what is signed (`b64`): neither is served.
_REFUSED_HEADERS = frozenset({"crit", "b64", "zip", "enc"})


class TokenRefusedError(Exception):
    """The caller is not who may call. `reason` is for our log; the caller is told nothing (RFC 6750, section 3.1)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReplayStore(Protocol):
    """Remembers token ids across workers and restarts."""

    def first_use(self, issuer: str, jti: str, expires: datetime) -> bool:
        """Whether this id was never seen of this issuer; it now is. Raises StoreError when that cannot be known."""


@dataclass(frozen=True, slots=True)
class Caller:
    client: CdsClient
    tenant: str | None

    @property
    def asker(self) -> Asker:
        """As the store knows them."""
        return Asker(self.client.name, self.tenant)


class TokenVerifier:
    """TokenVerifier(clients, replay).verify(authorization_header, url) -> Caller"""

    def __init__(
        self,
        clients: Callable[[], Mapping[str, CdsClient]],
        replay: ReplayStore,
        networks: Networks | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clients = clients
        self._replay = replay
        self._outbound = Outbound(networks)
        self._clock = clock
        self._fetched: dict[str, FetchedKeys] = {}

    def verify(self, authorization: str | None, url: str) -> Caller:
        """Who calls `url` (our configured address, never the Host header). Raises TokenRefusedError, StoreError.

        The token's id is used up last, when everything else holds: a forged token must not burn a true one's id.
        """
        token = _bearer(authorization)
        header, claims = _unverified(token)
        client = self._clients().get(_string(claims, "iss", MAX_NAME))
        if client is None:
            raise TokenRefusedError("unknown-issuer")
        key = self._key(client, header)
        try:
            jwt.decode(
                token,
                key.public,
                algorithms=[header["alg"]],
                options=_SIGNATURE_ONLY,
            )
        except (PyJWTError, ValueError, TypeError):
            raise TokenRefusedError("signature") from None
        tenant = self._check(client, claims, url)
        jti = _string(claims, "jti", MAX_JTI)
        expires = datetime.fromtimestamp(claims["exp"] + LEEWAY, UTC)
        if not self._replay.first_use(client.issuer, hashlib.sha256(jti.encode()).hexdigest(), expires):
            raise TokenRefusedError("replayed")
        return Caller(client, tenant)

    def _key(self, client: CdsClient, header: Mapping[str, Any]) -> VerifyingKey:
        algorithm, kid, jku = header.get("alg"), header.get("kid"), header.get("jku")
        if not isinstance(algorithm, str) or algorithm not in client.algorithms:
            raise TokenRefusedError("algorithm")
        if str(header.get("typ", "")).upper() != "JWT":
            raise TokenRefusedError("type")
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_NAME:
            raise TokenRefusedError("key-id")
        if _REFUSED_HEADERS & set(header):
            raise TokenRefusedError("header")
        # `jku` may repeat what is configured; it is never followed. `jwk`, `x5u` and `x5c` are not looked at.
        if jku is not None and not (isinstance(jku, str) and client.jwks_url and _same(jku, client.jwks_url)):
            raise TokenRefusedError("key-url")
        key = client.keys.get(kid) if client.keys is not None else self._keys_of(client).get(kid)
        if key is None or not key.fits(algorithm):
            raise TokenRefusedError("key")
        return key

    def _keys_of(self, client: CdsClient) -> FetchedKeys:
        return self._fetched.setdefault(client.jwks_url, FetchedKeys(client.jwks_url, self._outbound))

    def _check(self, client: CdsClient, claims: Mapping[str, Any], url: str) -> str | None:
        now = self._clock().timestamp()
        for name in _TIMES:
            if type(claims.get(name)) is not int or not 0 <= claims[name] < 2**40:
                raise TokenRefusedError(f"{name}-not-an-integer")
        lifetime = claims["exp"] - claims["iat"]
        if not 0 < lifetime <= client.max_lifetime:
            raise TokenRefusedError("lifetime")
        if claims["exp"] + LEEWAY <= now:
            raise TokenRefusedError("expired")
        not_before = claims.get("nbf", claims["iat"])
        if type(not_before) is not int or max(claims["iat"], not_before) - LEEWAY > now:
            raise TokenRefusedError("not-yet-valid")
        audience = claims.get("aud")
        listed = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(item, str) and _same(item, url) for item in listed):
            raise TokenRefusedError("audience")
        _string(claims, "jti", MAX_JTI)
        tenant = claims.get("tenant")
        if client.tenants and tenant not in client.tenants:
            raise TokenRefusedError("tenant")
        return tenant if isinstance(tenant, str) and client.tenants else None


def _bearer(authorization: str | None) -> str:
    """The token of the header; two headers arrive as one with a comma, which no token has."""
    scheme, _, rest = (authorization or "").partition(" ")
    token = rest.strip(" ")
    if scheme.lower() != "bearer" or len(token) > MAX_TOKEN or not _COMPACT.match(token):
        raise TokenRefusedError("no-token")
    return token


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, only to find which client's key must verify them.

    Read as strictly as any request: what two readers could take for two things (a claim twice) is no token.
    """
    try:
        header, claims, _ = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split("."))
        return parse_json(header), parse_json(claims)
    except (binascii.Error, HookError):
        raise TokenRefusedError("not-a-token") from None


def _string(claims: Mapping[str, Any], name: str, longest: int) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise TokenRefusedError(f"{name}-missing")
    return value


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode())
