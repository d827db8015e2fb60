"""The file of SMART clients: what is wrong is named, and no secret is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cds_service.application.factory import create_app
from cds_service.commands.service.serve import command
from cds_service.oauth.clients import read_smart_clients
from cds_service.oauth.errors import SmartSetupError
from cds_service.oauth.keys import published
from tests.cds_service.smart.authority import new_ec_pem, new_rsa_pem, pem
from tests.patience import patient_settings

GOOD: dict[str, Any] = {"name": "general", "iss": "https://ehr.example.org/fhir", "client_id": "riskcards"}


def write(folder: Path, *clients: Any, **top: Any) -> Path:
    path = folder / "smart.json"
    path.write_text(json.dumps({"clients": list(clients)} | top))
    return path


def test_each_kind_of_client_is_read(tmp_path: Path) -> None:
    (tmp_path / "ec.pem").write_bytes(new_ec_pem())
    (tmp_path / "rsa.pem").write_bytes(new_rsa_pem())
    keys = [str(tmp_path / "ec.pem"), str(tmp_path / "rsa.pem")]
    found = read_smart_clients(
        write(
            tmp_path,
            GOOD,
            GOOD | {"name": "b", "iss": "https://b.example/", "type": "symmetric", "client_secret_env": "SECRET_OF_B"},
            GOOD | {"name": "c", "iss": "http://127.0.0.1:1/fhir", "type": "asymmetric", "private_keys": keys},
        ),
        {"SECRET_OF_B": "hunter2"},
    )
    assert set(found) == {"https://ehr.example.org/fhir", "https://b.example", "http://127.0.0.1:1/fhir"}
    assert found["https://b.example"].secret == "hunter2"
    assert "hunter2" not in repr(found)
    signing = found["http://127.0.0.1:1/fhir"].keys
    assert [key.algorithm for key in signing] == ["ES384", "RS384"]
    assert published(signing)["keys"]
    assert all("d" not in key for key in published(signing)["keys"])


WRONG = {
    "no list": ({"clients": {}}, "`clients` with a list"),
    "another key": ({"client": []}, "`clients` with a list"),
    "not an object": (["x"], "expected an object"),
    "an unknown field": ([GOOD | {"secret": "hunter2"}], "unknown field 'secret'"),
    "no client_id": ([GOOD | {"client_id": ""}], "client_id"),
    "plain http": ([GOOD | {"iss": "http://ehr.example.org/fhir"}], "iss"),
    "a query": ([GOOD | {"iss": "https://ehr.example.org/fhir?x=1"}], "iss"),
    "a user": ([GOOD | {"iss": "https://me@ehr.example.org/fhir"}], "iss"),
    "twice": ([GOOD, GOOD | {"name": "b", "iss": GOOD["iss"] + "/"}], "occurs twice"),
    "another type": ([GOOD | {"type": "secret"}], "public, symmetric, asymmetric"),
    "a public client with a secret": ([GOOD | {"client_secret_file": "x"}], "public client has no credential"),
    "a symmetric one without": ([GOOD | {"type": "symmetric"}], "client_secret_file or"),
    "a symmetric one with a key": ([GOOD | {"type": "symmetric", "private_keys": ["x"]}], "client_secret_file or"),
    "a secret that is not set": ([GOOD | {"type": "symmetric", "client_secret_env": "NO_SUCH"}], "NO_SUCH is not set"),
    "a secret file that is none": ([GOOD | {"type": "symmetric", "client_secret_file": "/no/such"}], "/no/such"),
    "a key file that is none": ([GOOD | {"type": "asymmetric", "private_keys": ["/no/such"]}], "/no/such"),
    "a host with a path": ([GOOD | {"hosts": ["auth.example.org/x"]}], "hosts"),
    "hosts in one string": ([GOOD | {"hosts": "auth.example.org"}], "list of strings"),
    "a frame with a path": ([GOOD | {"frame_ancestors": ["https://ehr.example.org/x"]}], "frame_ancestors"),
    "a frame that ends the header": ([GOOD | {"frame_ancestors": ["https://a; script-src *"]}], "frame_ancestors"),
    "a frame with a new line": ([GOOD | {"frame_ancestors": ["https://a.example\n"]}], "frame_ancestors"),
    "every frame": ([GOOD | {"frame_ancestors": ["*"]}], "frame_ancestors"),
}


@pytest.mark.parametrize(("content", "word"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, word: str) -> None:
    path = tmp_path / "smart.json"
    path.write_text(json.dumps({"clients": content} if isinstance(content, list) else content))
    with pytest.raises(SmartSetupError) as caught:
        read_smart_clients(path, {})
    assert word in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"words", pem(ec.generate_private_key(ec.SECP256R1())), pem(rsa.generate_private_key(65537, 1024))],
    ids=["empty", "no PEM", "P-256", "RSA-1024"],
)
def test_a_key_that_signs_nothing_we_may_send_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    client = GOOD | {"type": "asymmetric", "private_keys": [str(tmp_path / "key.pem")]}
    with pytest.raises(SmartSetupError, match="private_keys"):
        read_smart_clients(write(tmp_path, client), {})


def test_the_service_does_not_start_with_a_faulty_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD | {"type": "secret"})
    ran = CliRunner().invoke(command, ["--insecure"], env={"RISKCARDS_SMART_CLIENTS": str(path)})
    assert ran.exit_code == 2
    assert "RISKCARDS_SMART_CLIENTS" in ran.output


def test_tokens_are_not_brought_home_over_plain_http(tmp_path: Path) -> None:
    env = {
        "RISKCARDS_SMART_CLIENTS": str(write(tmp_path, GOOD)),
        "RISKCARDS_PUBLIC_URL": "http://cds.example.org",
        "RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/t.db",
    }
    with pytest.raises(SmartSetupError, match="https"):
        create_app(patient_settings(env))
