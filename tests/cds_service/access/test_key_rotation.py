"""Rotation of a client's pinned key by the deployment guide: both keys in the file, then the new one alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from cds_hooks.errors import TokenRefusedError
from cds_service.access.clients import ClientsFile
from cds_service.access.tokens import TokenVerifier
from cds_service.cli import cli
from cds_service.store.store import Store
from tests.cds_service.access.ehr import PUBLIC, Ehr

URL = f"{PUBLIC}/cds-services"


def test_a_pinned_key_is_rotated_without_a_refused_request(tmp_path: Path) -> None:
    old, new = Ehr(), Ehr(ec_key=ec.generate_private_key(ec.SECP384R1()))
    new_key: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(new.ec_key.public_key())) | {"kid": "ec-2"}
    file = old.configure(tmp_path / "clients.json")
    clients = ClientsFile(file)
    verifier = TokenVerifier(lambda: clients.clients, Store(f"sqlite:///{tmp_path}/tokens.db"))

    def rotate(*keys: dict[str, Any]) -> None:
        place = tmp_path / "keys.json"
        place.write_text(json.dumps({"keys": keys}))
        result = CliRunner().invoke(cli, ["client", "rotate", "general", "--jwks", str(place), "--file", str(file)])
        assert result.exit_code == 0, result.output

    def accepted(*, by_new: bool) -> bool:
        ehr, kid = (new, "ec-2") if by_new else (old, "ec-1")
        try:
            verifier.verify(f"Bearer {ehr.token(URL, headers={'kid': kid})}", URL)
        except TokenRefusedError:
            return False
        return True

    assert (accepted(by_new=False), accepted(by_new=True)) == (True, False)
    rotate(*old.jwks()["keys"], new_key)
    assert (accepted(by_new=False), accepted(by_new=True)) == (True, True)
    rotate(new_key)
    assert (accepted(by_new=False), accepted(by_new=True)) == (False, True)
    with pytest.raises(TokenRefusedError):
        # The old key under the new one's name.
        verifier.verify(f"Bearer {old.token(URL, headers={'kid': 'ec-2'})}", URL)
