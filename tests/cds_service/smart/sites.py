"""Two sites in one Chromium: a hospital's EHR whose page frames the app, https, third-party cookies blocked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, render_template_string
from werkzeug.serving import BaseWSGIServer, make_server

from tests.cds_service.smart.authority import Realm, pem
from tests.chromium import opened_browser, patient_page

EHR, APP = "hospital.example", "cds.example.org"
# Chromium as it will be for all: a cookie of another site only where it is partitioned.
BLOCKED = "--test-third-party-cookie-phaseout"


@contextmanager
def two_sites(app: Flask, realms: Mapping[str, Realm], folder: Path) -> Iterator[Any]:
    """A browser for which both sites are where the tests serve them; /{realm}/{launch} of the EHR frames the app."""
    outer = Flask("ehr")
    frame = '<!doctype html><title>EHR</title><iframe src="{{ url }}" width="900" height="700"></iframe>'

    @outer.get("/<realm>/<launch>")
    def chart(realm: str, launch: str) -> str:
        query = urlencode({"iss": realms[realm].base, "launch": launch})
        return render_template_string(frame, url=f"https://{APP}/launch?{query}")

    certificate = _certificate(folder)
    servers = {EHR: _serve(outer, certificate), APP: _serve(app, certificate)}
    rules = ", ".join(f"MAP {name} 127.0.0.1:{server.server_port}" for name, server in servers.items())
    try:
        with opened_browser(f"--host-resolver-rules={rules}", "--ignore-certificate-errors", BLOCKED) as browser:
            yield browser.new_context(ignore_https_errors=True)
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


def framed(context: Any, launch: str, realm: str = "asymmetric") -> tuple[Any, Any]:
    """The EHR's page and the app's frame in it, once the risk is seen."""
    page = patient_page(context)
    page.goto(f"https://{EHR}/{realm}/{launch}")
    frame = page.frame_locator("iframe")
    frame.locator("#now").wait_for()
    return page, frame


def _serve(app: Any, certificate: Path) -> BaseWSGIServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _certificate(folder: Path) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
    path = folder / "tls.pem"
    path.write_bytes(pem(key) + made.sign(key, hashes.SHA256()).public_bytes(_pem()))
    return path


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM
