"""The service's signing keys for client assertions (SMART 2.2, "Client Authentication: Asymmetric"; RFC 7523).

The public keys are published at /.well-known/jwks.json. A `kid` is the key's RFC 7638 thumbprint: a new key has a new
`kid` by itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from cds_hooks import MIN_RSA_BITS
from cds_service.oauth.errors import SmartSetupError

# Seconds. The specification allows at most five minutes; the server reads the assertion within seconds.
ASSERTION_SECONDS = 240
_REQUIRED = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}


@dataclass(frozen=True, slots=True)
class SigningKey:
    algorithm: str
    kid: str
    private: Any = field(repr=False)
    jwk: dict[str, Any]

    def assertion(self, client_id: str, token_endpoint: str) -> str:
        """A one-time client assertion of `client_id` for this token endpoint."""
        now = int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": token_endpoint,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(32),
        }
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers={"kid": self.kid, "typ": "JWT"})


def read_signing_key(path: Path, where: str) -> SigningKey:
    """The signing key of an unencrypted PEM file: EC P-384 for ES384, RSA for RS384. Raises SmartSetupError."""
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SmartSetupError(f"{where}: {path} cannot be read ({error.__class__.__name__})") from None
    except (ValueError, TypeError):
        raise SmartSetupError(f"{where}: {path} is not an unencrypted PEM private key") from None
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP384R1):
        public = json.loads(ECAlgorithm.to_jwk(private.public_key()))
        return _named("ES384", private, {name: public[name] for name in _REQUIRED["EC"]})
    if isinstance(private, RSAPrivateKey) and private.key_size >= MIN_RSA_BITS:
        public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
        return _named("RS384", private, {name: public[name] for name in _REQUIRED["RSA"]})
    raise SmartSetupError(f"{where}: {path} is neither EC P-384 nor RSA with at least {MIN_RSA_BITS} bits")


def published(keys: Iterable[SigningKey]) -> dict[str, Any]:
    """The JWK set of the public keys, each once."""
    return {"keys": list({key.kid: key.jwk for key in keys}.values())}


def _named(algorithm: str, private: Any, members: dict[str, str]) -> SigningKey:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
    jwk = members | {"kid": kid, "use": "sig", "alg": algorithm, "key_ops": ["verify"]}
    return SigningKey(algorithm, kid, private, jwk)
