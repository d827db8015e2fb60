"""An EHR that signs tokens: keys, key sets, valid tokens, and tokens with one defect each."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://ehr.example.org"
PUBLIC = "https://cds.example.org"


@dataclass
class Ehr:
    """Ehr().token(url) -> a valid JWT; every part can be replaced."""

    issuer: str = ISSUER
    ec_key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    rsa_key: Any = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def jwks(self) -> dict[str, Any]:
        curve = json.loads(ECAlgorithm.to_jwk(self.ec_key.public_key())) | {"kid": "ec-1", "use": "sig"}
        plain = json.loads(RSAAlgorithm.to_jwk(self.rsa_key.public_key())) | {"kid": "rsa-1"}
        plain.pop("key_ops", None)
        return {"keys": [curve, plain]}

    def claims(self, url: str, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": url, "iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
        return {name: value for name, value in (claims | changed).items() if value is not ...}

    def token(
        self,
        url: str,
        *,
        key: Any = None,
        algorithm: str = "ES384",
        headers: dict[str, Any] | None = None,
        **changed: Any,
    ) -> str:
        """`claim=...` (Ellipsis) leaves a claim out."""
        head = {"kid": "ec-1" if algorithm.startswith("ES") else "rsa-1", "typ": "JWT"} | (headers or {})
        signing = key or (self.ec_key if algorithm.startswith("ES") else self.rsa_key)
        return jwt.encode(self.claims(url, **changed), signing, algorithm=algorithm, headers=head)

    def configure(self, path: Path, **changed: Any) -> Path:
        client = {"name": "general", "issuer": self.issuer, "jwks": self.jwks()} | changed
        path.write_text(json.dumps({"clients": [{k: v for k, v in client.items() if v is not ...}]}))
        return path


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
