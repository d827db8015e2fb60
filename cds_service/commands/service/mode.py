"""`riskcards mode`: off, silent, pilot, live; and the kill switch."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from cds_service.commands.shared.opened import config_option, opened_settings, opened_store
from cds_service.config.modes import EVERY, Mode
from cds_service.protocol.services import SERVICES


@click.command(name="mode")
@click.argument("mode", required=False, type=click.Choice([mode.value for mode in Mode]))
@click.option("--service", type=click.Choice([EVERY, *SERVICES]), default=EVERY, show_default=True)
@click.option("--tenant", default=EVERY, show_default=True, help="The tenant claim of the client's tokens.")
@click.option("--reason", default="", help="The reason, recorded in the audit chain.")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@config_option
def command(mode: str | None, service: str, tenant: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Show or set the mode of the running services. Takes effect within five seconds in every worker.

    \b
    off      no reading, no estimates            silent   estimated and recorded, never shown
    live     cards are shown                     pilot    shown to RISKCARDS_PILOT_USERS only

    \b
    riskcards mode                                        show the modes
    riskcards mode off --reason "unexpected rates"        the kill switch: all services
    riskcards mode silent --service readmission-30d       one service
    """
    with opened_store(config) as store:
        if mode is not None:
            store.set_mode(service, tenant, mode, reason)
        known = store.modes()
    default = opened_settings(config).mode
    if as_json:
        listed = [{"service": s, "tenant": t, "mode": m} for (s, t), m in sorted(known.items())]
        click.echo(orjson.dumps({"default": default, "set": listed}).decode())
        return
    for (named, of), set_to in sorted(known.items()):
        click.echo(f"{set_to:<8}service {named}, tenant {of}")
    click.echo(f"{default:<8}everything else")
    if known.get((EVERY, EVERY)) == Mode.OFF:
        click.echo("The kill switch is on: no cards are returned until `riskcards mode live`.")
