"""`riskcards demo`: the whole product in a browser, on embedded defaults."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cds_service.commands.shared.opened import check_port, opened_settings
from fhir_mapping import InvalidInputError

if TYPE_CHECKING:
    from flask import Flask

    from cds_service.demo.ward.patients import DemoWard


def _warm(app: Flask, ward: DemoWard) -> None:
    """Assesses every chart once, so that models are loaded and notes encoded before the first click."""
    from cds_service.application.memory import settle

    risks = app.extensions["riskcards-ward"]
    for patient in ward.patients.values():
        risks.of(patient)
    settle()


def _ward(folder: Path | None, server: str | None) -> DemoWard:
    """Raises click.UsageError, InvalidInputError."""
    from cds_service.demo.ward.fhir_server import from_server
    from cds_service.demo.ward.folder import from_folder
    from cds_service.demo.ward.patients import shipped

    if folder is not None and server is not None:
        raise click.UsageError("give either --patients or --fhir-server, not both")
    if server is not None:
        networks = opened_settings().private_networks
        return from_server(server, networks, lambda words: click.echo(f"\r{words}", nl=False, err=True))
    return shipped() if folder is None else from_folder(folder)


@click.command(name="demo")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--patients",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Use the patients of a folder of Synthea R4 bundles.",
)
@click.option("--fhir-server", metavar="URL", help="Use the patients of an open FHIR R4 server.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="A further host name under which it is opened."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser, only print the address.")
def command(
    host: str, port: int, patients: Path | None, fhir_server: str | None, hosts: tuple[str, ...], no_browser: bool
) -> None:
    """Try the service in a demo EHR in your browser.

    Choose a patient: opening the chart fires patient-view; the buttons fire encounter-start and encounter-discharge.
    Cards can be accepted or dismissed. Ctrl-C stops the demo and deletes its data.

    The demo answers requests to its own host name only. With --patients or --fhir-server the charts are open to the
    browser that opens the printed address, which has a key made for this run.

    \b
    riskcards demo
    riskcards demo --patients ~/synthea/output/fhir --port 9000
    riskcards demo --fhir-server http://127.0.0.1:8099/fhir
    """
    from werkzeug.serving import make_server

    from cds_service.application.memory import bound_arenas, settle
    from cds_service.demo.blueprint import create_demo_app
    from cds_service.demo.guard import DemoGuard, allowed_hosts, new_secret
    from cds_service.demo.setup import demo_settings

    check_port(host, port)
    started = time.perf_counter()
    bound_arenas()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    ward = _ward(patients, fhir_server)
    for name, reason in ward.refused:
        click.echo(f"not shown: {name}: {reason}", err=True)
    if not ward.patients:
        raise InvalidInputError("no usable patients: give a folder of FHIR R4 Bundles, one file per patient")
    with tempfile.TemporaryDirectory(prefix="riskcards-demo-") as folder:
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        secret = "" if patients is None and fhir_server is None else new_secret()
        guard = DemoGuard(address, allowed_hosts(hosts), secret)
        app = create_demo_app(demo_settings(address, Path(folder)), ward, guard=guard)
        server = make_server(host, port, app, threaded=True)
        settle()
        seconds = time.perf_counter() - started
        click.echo(f"riskcards demo: {guard.link('/demo/')}   {len(ward.patients)} patients, ready in {seconds:.1f} s")
        click.echo("For demonstration only, not for patient care. Ctrl-C stops it.")
        threading.Thread(target=_warm, args=(app, ward), daemon=True).start()
        if not no_browser:
            threading.Timer(0.3, webbrowser.open, (guard.link("/demo/"),)).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped")
        finally:
            server.server_close()
            app.extensions["riskcards"].store.close()
