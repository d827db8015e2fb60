"""`riskcards mode`: off, silent, pilot, live; and the kill switch."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from cds_service.commands.shared.opened import config_option
from cds_service.commands.shared.running import (
    RunningService,
    ServiceDatabase,
    database_name,
    operator,
    service_database,
    unused_option,
)
from cds_service.commands.shared.tenants import check_tenant
from cds_service.config.modes import EVERY, TASK, Mode
from cds_service.services import SERVICES
from cds_service.store.store import Store
from risk_model import TASKS

LATELY = timedelta(minutes=10)
"""A running service is seen every minute: a mode is set nowhere else by accident."""
_OF_TASKS = tuple(task for task in TASKS if any(task in service.tasks for service in SERVICES.values()))


@click.command(name="mode")
@click.argument("mode", required=False, type=click.Choice([mode.value for mode in Mode]))
@click.option("--service", type=click.Choice([EVERY, *SERVICES]), default=EVERY, show_default="all", help="A service.")
@click.option(
    "--task", type=click.Choice(_OF_TASKS), help="A task, in every service and in the app: off, or live again."
)
@click.option("--tenant", default=EVERY, show_default="all", help="The tenant claim of the client's tokens.")
@click.option("--reason", default="", help="The reason, recorded in the audit chain.")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@unused_option
@config_option
def command(
    mode: str | None,
    service: str,
    task: str | None,
    tenant: str,
    reason: str,
    as_json: bool,
    unused: bool,
    config: Path | None,
) -> None:
    """Show or set the mode of the running service. Takes effect within five seconds in every worker.

    The service is the one of --config or RISKCARDS_DATABASE_URL; without them the one that runs on this machine. A
    database that no service uses is refused: the mode would change nothing.

    \b
    off      no reading, no estimates            silent   estimated and recorded, never shown
    live     cards are shown                     pilot    shown to RISKCARDS_PILOT_USERS only

    \b
    riskcards mode                                        show the modes
    riskcards mode off --reason "unexpected rates"        the kill switch: all services
    riskcards mode off --task readmission_30d             no service and no page has this estimate
    riskcards mode silent --service readmission-30d       one service
    """
    if task is not None:
        if service != EVERY or mode not in {None, Mode.OFF, Mode.LIVE}:
            raise click.UsageError("--task: off or live, for every service; leave out --service")
        service = f"{TASK}{task}"
    database = service_database(config)
    if mode is not None:
        check_tenant(database.settings, tenant)
    stored = True
    if mode is not None and database.users:
        stored = _set_in(database.users, {"service": service, "tenant": tenant, "mode": mode, "reason": reason})
    if not stored:
        here = "in force in the running workers" if mode in {Mode.OFF, Mode.SILENT} else "not in force"
        click.echo(f"{mode}: {here}, and NOT in {database.name}, which does not answer.")
        raise click.ClickException("repeat the command when the database answers: new workers would not know the mode")
    with database.opened(unused, LATELY if mode is not None else timedelta.max) as store:
        if mode is not None and not database.users:
            store.set_mode(service, tenant, mode, reason, operator())
        _show(database, store, as_json)


def _set_in(services: list[RunningService], about: dict[str, Any]) -> bool:
    """Tells every worker; whether the database has the mode. Raises ClickException if no worker takes it."""
    stored = True
    for service in services:
        answer = next(iter(service.ask_workers({"ask": "set-mode", "by": operator(), **about}, most=1)), None)
        if answer is None:
            raise click.ClickException(f"{service.settings.public_url}: no worker took it; run the command again")
        stored &= bool(answer["stored"])
        # One worker has written it down; the others read it now, or take it while the database does not answer.
        service.ask_workers({"ask": "override-mode", "here_only": not answer["stored"], **about})
    return stored


def _show(database: ServiceDatabase, store: Store, as_json: bool) -> None:
    known, default = store.modes(), database.settings.mode
    if as_json:
        listed = [{"service": s, "tenant": t, "mode": m} for (s, t), m in sorted(known.items())]
        click.echo(orjson.dumps({"database": database.name, "default": default, "set": listed}).decode())
        return
    click.echo(f"database {database.name}, {_in_use(database, store)}")
    for (named, of), set_to in sorted(known.items()):
        what = f"task {named.removeprefix(TASK)}" if named.startswith(TASK) else f"service {named}"
        click.echo(f"{set_to:<8}{what}, tenant {of}")
    click.echo(f"{default:<8}everything else")
    if known.get((EVERY, EVERY)) == Mode.OFF:
        click.echo("The kill switch is on: no cards are returned until `riskcards mode live`.")
    for service in SERVICES.values():
        if len(service.tasks) == 1 and known.get((service.id, EVERY)) == Mode.OFF:
            click.echo(f"{service.id} is off, so its estimate is left out of every other card and of the app.")
    for other in database.others:
        # Two names of one server are two databases to us: what the service has read decides.
        found: list[dict[str, str]] = next(iter(other.ask_workers({"ask": "modes"}, most=1)), {"modes": []})["modes"]
        same = {(each["service"], each["tenant"]): each["mode"] for each in found} == known and bool(known)
        state = "has these modes too" if same else "not changed"
        click.echo(f"{state}: {other.settings.public_url}, which uses {database_name(other.settings)}")


def _in_use(database: ServiceDatabase, store: Store) -> str:
    if database.users:
        return "used by " + ", ".join(
            f"{each.settings.public_url} ({len(each.workers)} workers)" for each in database.users
        )
    last = store.services.last()
    return "which no service has used" if last is None else f"last used by {last.name} at {last.seen:%F %T} UTC"
