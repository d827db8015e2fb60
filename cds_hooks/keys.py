"""Public keys of clients: pinned, or fetched from their configured URL and never from a URL in a token."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from cds_hooks.errors import FetchError, KeyRefusedError, quoted

LOG = logging.getLogger("cds_hooks")

MIN_RSA_BITS = 2048
# Seconds. An unknown `kid` may be a new key, but made-up ones must not cause a fetch each.
REFETCH_SECONDS = 30.0
REFRESH_SECONDS = 3600.0
WAIT_SECONDS = 2.0
"""That a request with an unknown `kid` waits for a fetch which another one began."""
MOST_WAITING = 32
"""Requests that wait so for the keys of one client."""
STALE_SECONDS = 24 * 3600.0
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
}
"""Algorithm -> key type and curve it must be used with. No `none`, nothing symmetric."""
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "k"})


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One public key: its type, and the algorithm it is bound to when it says so."""

    kid: str
    key_type: str
    curve: str | None
    algorithm: str | None
    public: Any = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Whether signatures of this algorithm may be verified with this key."""
        return ALGORITHMS.get(algorithm) == (self.key_type, self.curve) and self.algorithm in (None, algorithm)


Keys = Mapping[str, VerifyingKey]
"""By `kid`."""
JwksFetcher = Callable[[str], bytes]
"""URL -> the body of a 200 answer. Raises FetchError; it limits time, size and redirects."""


def read_keys(jwks: Any) -> Keys:
    """The signature keys of a JWK set. Raises KeyRefusedError."""
    listed = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise KeyRefusedError('expected a JWK set: {"keys": [...]}')
    found: dict[str, VerifyingKey] = {}
    for number, item in enumerate(listed):
        if isinstance(item, Mapping) and item.get("use") == "enc":
            continue
        key = _key(item, f"keys[{number}]")
        if key.kid in found:
            raise KeyRefusedError(f"keys[{number}]: kid {key.kid!r} occurs twice")
        found[key.kid] = key
    return found


def usable_keys(jwks: Any) -> Keys:
    """The usable keys of a published set: keys of unknown types are skipped.

    Keys that share a `kid` are skipped too. Raises KeyRefusedError if no key is left.
    """
    listed = jwks.get("keys") if isinstance(jwks, Mapping) else None
    found: dict[str, VerifyingKey] = {}
    repeated: set[str] = set()
    for item in listed if isinstance(listed, list) else ():
        try:
            one = read_keys({"keys": [item]})
        except KeyRefusedError:
            continue
        repeated |= found.keys() & one.keys()
        found |= one
    usable = {kid: key for kid, key in found.items() if kid not in repeated}
    if not usable:
        raise KeyRefusedError("no key in it can be used")
    return usable


def parse_keys(body: bytes) -> Keys:
    """The usable keys in the body of a key server's answer. Raises KeyRefusedError."""
    try:
        return usable_keys(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise KeyRefusedError("not JSON") from None


def _key(item: Any, path: str) -> VerifyingKey:
    if not isinstance(item, Mapping):
        raise KeyRefusedError(f"{path}: expected an object")
    if _PRIVATE & set(item):
        raise KeyRefusedError(f"{path}: this is a private or symmetric key; only public keys belong here")
    kid = item.get("kid")
    if not isinstance(kid, str) or not kid:
        raise KeyRefusedError(f"{path}.kid: a non-empty string is required")
    if item.get("kty") not in {"EC", "RSA"}:
        raise KeyRefusedError(f"{path}.kty: EC or RSA is required")
    try:
        public = PyJWK(dict(item), algorithm=_any_algorithm(item)).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise KeyRefusedError(f"{path}: not a usable {item['kty']} key") from None
    bound = item.get("alg")
    algorithm = bound if isinstance(bound, str) else None
    if isinstance(public, RSAPublicKey):
        if public.key_size < MIN_RSA_BITS:
            raise KeyRefusedError(f"{path}: RSA with {public.key_size} bits; at least {MIN_RSA_BITS} are required")
        return VerifyingKey(kid, "RSA", None, algorithm, public)
    if isinstance(public, EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return VerifyingKey(kid, "EC", _CURVES[public.curve.name], algorithm, public)
    raise KeyRefusedError(f"{path}: P-256, P-384 or P-521 is required")


def _any_algorithm(item: Mapping[str, Any]) -> str:
    curves = {curve: name for name, (kind, curve) in ALGORITHMS.items() if kind == "EC"}
    return "RS384" if item["kty"] == "RSA" else curves.get(str(item.get("crv")), "ES384")


class FetchedKeys:
    """FetchedKeys(url, fetch).get(kid): fetched when needed, at most every 30 s, used at most a day past their fetch.

    A request with a known key never waits for a fetch that another one began. So neither a key server that hangs nor
    requests with unknown keys lock out a client.
    """

    def __init__(self, url: str, fetch: JwksFetcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._fetch_jwks = fetch
        self._clock = clock
        self._lock, self._fetching = Lock(), Lock()
        self._waiting = BoundedSemaphore(MOST_WAITING)
        self._keys: Keys = {}
        self._fetched = self._tried = float("-inf")
        self.fault = ""
        """Why the last fetch gave no keys: a code and its detail, "" if it gave some."""

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys of the last fetch that gave some."""
        return tuple(sorted(self._keys))

    def get(self, kid: str) -> VerifyingKey | None:
        """The key with that `kid`; None if there is none that is still valid."""
        if self._begins_fetch(kid):
            try:
                self._fetch()
            finally:
                self._fetching.release()
        elif kid not in self._keys and self._waiting.acquire(blocking=False):
            # Another thread may be fetching it. Not all may wait: made-up keys would take every thread.
            try:
                if self._fetching.acquire(timeout=WAIT_SECONDS):
                    self._fetching.release()
            finally:
                self._waiting.release()
        return self._keys.get(kid) if self._clock() - self._fetched <= STALE_SECONDS else None

    def _begins_fetch(self, kid: str) -> bool:
        """Whether this thread must fetch the keys; no other does until `_fetching` is released."""
        with self._lock:
            now = self._clock()
            wanted = kid not in self._keys or now - self._fetched > REFRESH_SECONDS
            if not wanted or now - self._tried < REFETCH_SECONDS:
                return False
            self._tried = now
            self._fetching.acquire()
            return True

    def _fetch(self) -> None:
        try:
            self._keys, self._fetched = parse_keys(self._fetch_jwks(self._url)), self._clock()
        except (FetchError, KeyRefusedError) as error:
            # The known keys stay valid until they are a day old, so that the key server may be down for a while.
            self.fault = str(error)
            LOG.warning("keys not fetched url=%s cause=%s", quoted(self._url), quoted(self.fault))
        else:
            self.fault = ""
