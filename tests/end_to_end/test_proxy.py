"""nginx, the service and PostgreSQL as `deploy/` puts them together, against clients that never finish."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml

from cds_service.config.settings import Settings
from tests.cds_service.smart.sites import _certificate
from tests.cds_service.store.conftest import postgres
from tests.contract.conftest import whole_request
from tests.patience import PATIENT, responds, until

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
__all__ = ["postgres"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], folder: Path, **env: str) -> Iterator[None]:
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **env}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENT)


@pytest.fixture
def proxy(tmp_path: Path, postgres: str) -> Iterator[int]:
    """The port of nginx; of its file only addresses and folders are changed."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    port, inner = _free_port(), _free_port()
    certificate = _certificate(tmp_path)
    text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}").replace("127.0.0.1:8080", f"127.0.0.1:{inner}")
    text = re.sub(r"/etc/nginx/tls/cds\.(pem|key)", str(certificate), text)
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    text = text.replace("http {", f"http {{ client_body_temp_path {tmp_path}/body; {folders}", 1)
    # Started by root, its workers are another user, who may not write to a test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n{text}"
    )
    service = [sys.executable, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(inner), "--workers", "1"]
    env = {"RISKCARDS_DATABASE_URL": postgres, "RISKCARDS_RUN_FOLDER": str(tmp_path / "run")}
    with (
        _running(service, tmp_path, HOME=str(tmp_path), **env),
        _running([str(NGINX), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], tmp_path),
    ):
        assert until(lambda: responds(f"http://127.0.0.1:{inner}/health/live"), PATIENT)
        yield port


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_hooks_are_answered_while_800_connections_stand_still(proxy: int, postgres: str) -> None:
    """Half stop within their headers and half within their bodies; operators' paths are not there at all."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    head = b"POST /cds-services/hospital-risk HTTP/1.1\r\nHost: x\r\n"
    body = head + b"Content-Type: application/json\r\nContent-Length: 5000000\r\n\r\n{"
    with ExitStack() as slow, requests.Session() as session:
        for number in range(800):
            plain = slow.enter_context(socket.create_connection(("127.0.0.1", proxy), timeout=PATIENT))
            slow.enter_context(tls.wrap_socket(plain)).sendall(body if number % 2 else head)
        # The session's own setting gives way to a bundle that the environment names.
        session.trust_env, session.verify = False, False
        url = f"https://127.0.0.1:{proxy}"
        request = json.dumps(whole_request("diabetic-heart-failure-discharge"))
        given = {"Content-Type": "application/json"}
        for _ in range(10):
            answer = session.post(f"{url}/cds-services/readmission-30d", data=request, headers=given, timeout=PATIENT)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["cards"]) == 1
        paths = ("/metrics", "/health/ready", "/health/live", "/cds-services", "/app/static/app.css")
        found = {path: session.get(f"{url}{path}", timeout=PATIENT).status_code for path in paths}
    assert found == {
        "/metrics": 404, "/health/ready": 404, "/health/live": 200, "/cds-services": 200, "/app/static/app.css": 200
    }  # fmt: skip
    with psycopg.connect(postgres) as database:
        assert database.execute("SELECT count(*) FROM cards").fetchone() == (10,)


def _compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
    return parsed


def test_only_the_proxy_has_a_port_and_the_service_is_behind_it() -> None:
    parsed = _compose()
    services = parsed["services"]
    assert {name: each.get("ports") for name, each in services.items()} == {
        "proxy": ["443:443"], "riskcards": None, "database": None
    }  # fmt: skip
    command = services["riskcards"]["command"]
    # In the proxy's network, at the address nginx.conf passes requests to; the admin address is passed on by no line.
    assert services["riskcards"]["network_mode"] == "service:proxy"
    listens = f"http://{command[command.index('--host') + 1]}:{command[command.index('--port') + 1]}"
    proxy = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
    assert re.findall(r"proxy_pass (\S+);", proxy) == [listens] == ["http://127.0.0.1:8080"]
    assert command[command.index("--admin") + 1] == "127.0.0.1:8081"
    assert services["database"]["networks"] == ["data"]
    assert parsed["networks"]["data"]["internal"] is True


@pytest.mark.parametrize("name", ["proxy", "riskcards", "database"])
def test_each_container_is_locked_down_and_has_a_health_check(name: str) -> None:
    service = _compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "privileged" not in service
    assert not [volume for volume in service.get("volumes", []) if volume.startswith((".", "/"))]


def test_secrets_come_from_files_that_are_not_kept_in_the_repository() -> None:
    parsed = _compose()
    files = {name: secret["file"] for name, secret in parsed["secrets"].items()}
    assert all(file.startswith("secrets/") for file in files.values()), files
    assert "deploy/secrets" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert "deploy/secrets" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    used = [each for service in parsed["services"].values() for each in service.get("secrets", [])]
    assert {each if isinstance(each, str) else each["source"] for each in used} == set(files)
    for service in parsed["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), name
            assert "@" not in value


def test_the_settings_of_the_compose_file_are_settings() -> None:
    names = set(_compose()["services"]["riskcards"]["environment"])
    assert names == {"RISKCARDS_TRUSTED_PROXIES", "RISKCARDS_CDS_CLIENTS"}
    assert {name.removeprefix("RISKCARDS_").lower() for name in names} <= set(Settings.model_fields)


def test_the_image_takes_the_driver_of_postgresql_from_the_lock(tmp_path: Path) -> None:
    """The command of the Dockerfile, on the lock."""
    found = re.search(r"^RUN (awk .*) > requirements/postgresql.txt$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    lines = subprocess.run(found[1], shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^([a-z-]+)\S*==", lines, re.MULTILINE) == ["psycopg", "psycopg-binary"]
    assert lines.count("--hash=sha256:") > 4
