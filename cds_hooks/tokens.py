"""Verification and signing of client tokens (CDS Hooks, "Trusting CDS Clients"; RFC 7519, RFC 8725).

trust = Trust(
    "https://cds.example.org",
    [TrustedIssuer("https://ehr.example.org", jwks={"keys": [...]})],
)
trust.verify(authorization_header, "https://cds.example.org/cds-services") -> Caller
TokenSigner("https://ehr.example.org", private_key, "key-1").token(url)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import jwt
from jwt.exceptions import PyJWTError

from cds_hooks.errors import FetchError, HookError, KeyRefusedError, TokenRefusedError
from cds_hooks.keys import ALGORITHMS, FetchedKeys, JwksFetcher, Keys, VerifyingKey, read_keys
from cds_hooks.strict_json import parse_json

MAX_TOKEN = 8 * 1024
"""Bytes."""
MAX_NAME = 1024
MAX_JTI = 128
LEEWAY = 60
"""Seconds: the clock difference that is allowed, and what a lifetime may exceed its limit by."""
MAX_LIFETIME = 300
"""Seconds a token may be valid for (exp - iat)."""
DEFAULT_ALGORITHMS = ("ES384", "RS384")
_TIMES = ("exp", "iat")
# Three parts of base64url without padding (RFC 7515, section 7.1): many parsers, such as PyJWT, accept more characters.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._:/\[\]~-]{1,250}\Z")
# Claims are checked here, more strictly than by PyJWT, which checks the signature.
_SIGNATURE_ONLY: Any = dict.fromkeys(
    ("verify_aud", "verify_exp", "verify_iat", "verify_nbf", "verify_iss", "verify_jti", "verify_sub"), False
)
# An unknown extension that must be understood (`crit`), or changes what is signed (`b64`), is not accepted.
_REFUSED_HEADERS = frozenset({"crit", "b64", "zip", "enc"})


class Issuer(Protocol):
    """The configuration of one client: its `iss`, its keys (pinned, or at `jwks_url`) and its limits."""

    @property
    def issuer(self) -> str: ...
    @property
    def keys(self) -> Keys | None: ...
    @property
    def jwks_url(self) -> str: ...
    @property
    def jku(self) -> tuple[str, ...]: ...
    @property
    def algorithms(self) -> tuple[str, ...]: ...
    @property
    def tenants(self) -> tuple[str, ...]: ...
    @property
    def max_lifetime(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """TrustedIssuer("https://ehr.example.org", jwks={"keys": [...]}) or TrustedIssuer("...", jwks_url="https://...")

    Raises KeyRefusedError for keys, algorithms or URLs that cannot be used.
    """

    issuer: str
    jwks: Mapping[str, Any] | None = None
    jwks_url: str = ""
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    tenants: tuple[str, ...] = ()
    """If given, a token must name one of them."""
    max_lifetime: int = MAX_LIFETIME
    jku: tuple[str, ...] = ()
    """URLs that the `jku` of a token may name, besides `jwks_url`. They are compared and never fetched."""
    keys: Keys | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.jwks is None) == (not self.jwks_url):
            raise KeyRefusedError(f"{self.issuer}: exactly one of jwks (the keys themselves) and jwks_url is required")
        if self.jwks_url and urlsplit(str(self.jwks_url)).scheme != "https":
            raise KeyRefusedError(f"{self.issuer}.jwks_url: an https URL is required")
        wrong = sorted(set(self.algorithms) - set(ALGORITHMS))
        if wrong:
            allowed = ", ".join(ALGORITHMS)
            raise KeyRefusedError(f"{self.issuer}.algorithms: {wrong[0]!r} is not allowed; there are {allowed}")
        if type(self.max_lifetime) is not int or not 1 <= self.max_lifetime <= 3600:
            raise KeyRefusedError(f"{self.issuer}.max_lifetime: 1 to 3600 seconds")
        for url in self.jku:
            # Only compared, never fetched: a test client's http address harms nobody.
            if urlsplit(url).scheme not in {"http", "https"}:
                raise KeyRefusedError(f"{self.issuer}.jku: {url!r} is not an absolute http(s) URL")
        if self.jwks is not None:
            object.__setattr__(self, "keys", read_keys(self.jwks))


IssuerT = TypeVar("IssuerT", bound=Issuer)


@dataclass(frozen=True, slots=True)
class VerifiedToken(Generic[IssuerT]):
    """The verified client: the configured issuer, and the tenant if tenants are configured."""

    issuer: IssuerT
    tenant: str | None


class ReplayStore(Protocol):
    """A store of used token ids, shared by all workers of a service and kept over restarts."""

    def first_use(self, issuer: str, jti: str, expires: datetime) -> bool:
        """Whether this issuer's token id is new; from now on it is used. Raises if that cannot be determined."""


class MemoryReplayStore:
    """A ReplayStore for one process."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = Lock()
        self._expires: dict[tuple[str, str], datetime] = {}
        self._next_purge = clock()

    def first_use(self, issuer: str, jti: str, expires: datetime) -> bool:
        with self._lock:
            now = self._clock()
            if now >= self._next_purge:
                self._expires = {key: until for key, until in self._expires.items() if until > now}
                self._next_purge = max(now, min(self._expires.values(), default=now))
            if (issuer, jti) in self._expires:
                return False
            self._expires[issuer, jti] = expires
            return True


def _no_fetch(_: str) -> bytes:
    raise FetchError("no-jwks-fetcher")


class Trust(Generic[IssuerT]):
    """Trust("https://cds.example.org", issuers).verify(authorization_header, url) -> VerifiedToken

    `base_url` is the public address of the service, as clients write it into `aud`: never the Host header. `issuers`
    may be a function, so that a changed configuration is used at once. Without `fetch_jwks` only pinned keys work.
    """

    def __init__(
        self,
        base_url: str,
        issuers: Iterable[IssuerT] | Callable[[], Mapping[str, IssuerT]],
        *,
        fetch_jwks: JwksFetcher = _no_fetch,
        replay: ReplayStore | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.base_url = base_url.rstrip("/")
        if callable(issuers):
            self._issuers = issuers
        else:
            fixed = {each.issuer: each for each in issuers}
            self._issuers = lambda: fixed
        self._fetch_jwks = fetch_jwks
        self._replay = replay or MemoryReplayStore(clock)
        self._clock = clock
        self._fetched: dict[str, FetchedKeys] = {}

    def verify(self, authorization: str | None, url: str) -> VerifiedToken[IssuerT]:
        """The client that calls `url`. Raises TokenRefusedError, and what the replay store raises.

        The token's id is marked as used last, when all else is valid: a forged token must not use up a valid one's id.
        """
        token = _bearer(authorization)
        header, claims = _unverified(token)
        named = _string(claims, "iss", MAX_NAME)
        issuer = self._issuers().get(named)
        if issuer is None:
            raise TokenRefusedError("unknown-issuer", received_iss=_address(named))
        try:
            return self._verified(issuer, token, header, claims, url)
        except TokenRefusedError as error:
            # An operator looks for the client first.
            raise TokenRefusedError(error.reason, iss=issuer.issuer, **error.details) from None

    def _verified(
        self, issuer: IssuerT, token: str, header: Mapping[str, Any], claims: Mapping[str, Any], url: str
    ) -> VerifiedToken[IssuerT]:
        """The client, whose id the token names, after every check. Raises TokenRefusedError."""
        key = self._key(issuer, header)
        try:
            jwt.decode(token, key.public, algorithms=[header["alg"]], options=_SIGNATURE_ONLY)
        except (PyJWTError, ValueError, TypeError):
            raise TokenRefusedError("signature", kid=header["kid"]) from None
        tenant = self._check(issuer, claims, url)
        jti = _string(claims, "jti", MAX_JTI)
        expires = datetime.fromtimestamp(claims["exp"] + LEEWAY, UTC)
        if not self._replay.first_use(issuer.issuer, hashlib.sha256(jti.encode()).hexdigest(), expires):
            raise TokenRefusedError("replayed")
        return VerifiedToken(issuer, tenant)

    def _key(self, issuer: IssuerT, header: Mapping[str, Any]) -> VerifyingKey:
        algorithm, kid, jku = header.get("alg"), header.get("kid"), header.get("jku")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise TokenRefusedError("algorithm", received_alg=algorithm, accepted=issuer.algorithms)
        if str(header.get("typ", "")).upper() != "JWT":
            raise TokenRefusedError("type", received_typ=header.get("typ"))
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_NAME:
            raise TokenRefusedError("key-id")
        refused = _REFUSED_HEADERS & set(header)
        if refused:
            raise TokenRefusedError("header", received=sorted(refused))
        # `jku` may repeat what is configured; it is never followed. `jwk`, `x5u` and `x5c` are ignored.
        listed = (*((issuer.jwks_url,) if issuer.jwks_url else ()), *issuer.jku)
        if jku is not None and not (isinstance(jku, str) and any(_same(jku, each) for each in listed)):
            raise TokenRefusedError("key-url", received_jku=_address(jku), accepted=listed)
        key, known, fault = self._find_key(issuer, kid)
        if key is None:
            raise TokenRefusedError("key", received_kid=kid, known_kids=known, **({"jwks": fault} if fault else {}))
        if not key.fits(algorithm):
            raise TokenRefusedError("key", received_kid=kid, received_alg=algorithm, key=(key.key_type, key.algorithm))
        return key

    def _find_key(self, issuer: IssuerT, kid: str) -> tuple[VerifyingKey | None, tuple[str, ...], str]:
        """(the key, the ids of all keys of the issuer, why they could not be fetched)"""
        if issuer.keys is not None:
            return issuer.keys.get(kid), tuple(sorted(issuer.keys)), ""
        fetched = self._keys_of(issuer)
        return fetched.get(kid), fetched.kids, fetched.fault

    def _keys_of(self, issuer: IssuerT) -> FetchedKeys:
        return self._fetched.setdefault(issuer.jwks_url, FetchedKeys(issuer.jwks_url, self._fetch_jwks))

    def _check(self, issuer: IssuerT, claims: Mapping[str, Any], url: str) -> str | None:
        """The tenant of a token with valid claims. Raises TokenRefusedError."""
        now = self._clock().timestamp()
        for name in _TIMES:
            if not _is_time(claims.get(name)):
                raise TokenRefusedError(f"{name}-not-a-time", **{f"received_{name}": claims.get(name)})
        lifetime = claims["exp"] - claims["iat"]
        if not 0 < lifetime <= issuer.max_lifetime + LEEWAY:
            raise TokenRefusedError("lifetime", received_seconds=lifetime, accepted_seconds=issuer.max_lifetime)
        if claims["exp"] + LEEWAY <= now:
            raise TokenRefusedError("expired", received_exp=claims["exp"], now=int(now))
        not_before = claims.get("nbf", claims["iat"])
        if not _is_time(not_before) or max(claims["iat"], not_before) - LEEWAY > now:
            raise TokenRefusedError("not-yet-valid", iat=claims["iat"], nbf=not_before, now=int(now))
        audience = claims.get("aud")
        listed = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(item, str) and _same(item, url) for item in listed):
            raise TokenRefusedError("audience", received_aud=[_address(item) for item in listed], expected_aud=url)
        _string(claims, "jti", MAX_JTI)
        tenant = claims.get("tenant")
        if issuer.tenants and tenant not in issuer.tenants:
            raise TokenRefusedError("tenant", received_tenant=tenant, accepted=issuer.tenants)
        return tenant if isinstance(tenant, str) and issuer.tenants else None


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs the tokens of a client. `private_key` is a key of `cryptography` or a PEM text."""

    issuer: str
    private_key: Any = field(repr=False)
    kid: str
    algorithm: str = "ES384"
    jku: str | None = None
    lifetime: int = MAX_LIFETIME
    """Seconds."""

    def token(self, url: str, **claims: Any) -> str:
        """A new token for one call of `url`."""
        now = int(time.time())
        about = {"iss": self.issuer, "aud": url, "iat": now, "exp": now + self.lifetime, "jti": str(uuid.uuid4())}
        headers = {"kid": self.kid, "typ": "JWT"} | ({"jku": self.jku} if self.jku else {})
        return jwt.encode(about | claims, self.private_key, algorithm=self.algorithm, headers=headers)


def _bearer(authorization: str | None) -> str:
    """The token of the header; two headers arrive as one with a comma, which is refused."""
    scheme, _, rest = (authorization or "").partition(" ")
    token = rest.strip(" ")
    if scheme.lower() != "bearer" or len(token) > MAX_TOKEN or not _COMPACT.match(token):
        raise TokenRefusedError("no-token")
    return token


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified, only to find the client with the key that must verify them.

    Parsed as strictly as any request: a token that two parsers could read differently is refused.
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


def _address(value: Any) -> str:
    """An address of a token for the log. Anything else may be anything, also of a patient, and is not shown.

    >>> _address("https://ehr.example.org/a"), _address("Jane Doe"), _address(None)
    ('https://ehr.example.org/a', '<not a URL>', '<none>')
    """
    if value is None:
        return "<none>"
    return value if isinstance(value, str) and _ADDRESS.match(value) else "<not a URL>"


def _is_time(value: Any) -> bool:
    """Whether this is a NumericDate: seconds, also with a fraction (RFC 7519, section 2).

    >>> [_is_time(value) for value in (1.8e9 + 0.5, 0, True, "1", -1, float("inf"), 10**30)]
    [True, True, False, False, False, False, False]
    """
    return type(value) in {int, float} and bool(0 <= value < 2**40)


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode())
