"""`riskcards refresh`: the worker that keeps the estimates of a server's inpatients fresh."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from cds_service.commands.shared.opened import config_option, log_to_stderr, opened_settings, store_of
from cds_service.config.settings import Settings
from cds_service.store.store import Store

if TYPE_CHECKING:
    from cds_service.background.leases import Leases
    from cds_service.refresh.rounds import RefreshRounds
    from cds_service.refresh.servers import RefreshServer

IDLE_SECONDS = 1.0
LEASE_SECONDS = 60.0
SAID_EVERY = 10
"""Estimates between two lines of progress."""


@click.command(name="refresh")
@config_option
@click.option("--client", "clients", multiple=True, help="Only this client of RISKCARDS_REFRESH_CLIENTS.")
@click.option("--poll/--no-poll", default=True, show_default=True, help="Ask the server what changed (_lastUpdated).")
@click.option("--once", is_flag=True, help="Poll once, work off the queue, then exit.")
@click.option(
    "--dry-run", is_flag=True, help="Print what would be written to the record, as JSON lines; write nothing."
)
def command(config: Path | None, clients: tuple[str, ...], poll: bool, once: bool, dry_run: bool) -> None:
    """Keep the estimates of inpatients fresh, for the ward list and the record.

    \b
    RISKCARDS_SMART_CLIENTS=smart.yaml RISKCARDS_REFRESH_CLIENTS=general-hospital riskcards refresh

    Reads who is in hospital, estimates whoever has no current estimate, and again whoever's data change: as the server
    notifies the service (`riskcards serve` receives it), and as this command asks. Needs the settings, session key file
    and database key of the service. Several may run: one polls a server, each patient is estimated by one of them, and
    another takes over if one is killed. While the mode is off nothing is read. With RISKCARDS_WRITE_BACK each estimate
    is written to the record; look at --dry-run first. See docs/fresh-scores.md.

    Exit codes: 0 done (--once), 1 database or internal error, 2 usage error, 3 the server could not be read (--once).
    """
    from cds_service.background.leases import Leases
    from cds_service.oauth.errors import SmartSetupError
    from cds_service.refresh.servers import refresh_servers

    settings = opened_settings(config)
    if once:
        settings = settings.with_changes(refresh_settle_seconds=0)
    log_to_stderr(settings.log_level)
    try:
        servers = refresh_servers(settings, clients)
    except SmartSetupError as error:
        raise click.UsageError(str(error)) from None
    if not servers:
        raise click.UsageError(
            "RISKCARDS_REFRESH_CLIENTS names no SMART client: set it to one of RISKCARDS_SMART_CLIENTS that is "
            "asymmetric and registered with system/ scopes"
        )
    with store_of(settings) as store, Leases(store.sealed, "refresh-poll", LEASE_SECONDS) as leases:
        rounds = opened_rounds(settings, store, servers, leases, poll)
        if dry_run:
            print_writes(rounds)
            return
        run(rounds, once)
        if once and any(each.failed for each in rounds):
            raise click.exceptions.Exit(3)


def opened_rounds(
    settings: Settings, store: Store, servers: tuple[RefreshServer, ...], leases: Leases, poll: bool
) -> list[RefreshRounds]:
    """Opens models and index once for the rounds of every server."""
    from cds_service.application.parts import ServiceParts
    from cds_service.background.read_ahead import deferred_asking, deferred_reading
    from cds_service.refresh.parts import fresh_estimates, refresh_jobs
    from cds_service.refresh.polling import Poller
    from cds_service.refresh.rounds import RefreshRounds
    from cds_service.refresh.worker import RefreshWorker
    from cds_service.refresh.write_back import WriteBack
    from risk_model import Pipeline

    pipeline = Pipeline.shipped(
        Path(settings.index) if settings.index else None,
        Path(settings.models) if settings.models else None,
        deferred_reading(settings, store),
        deferred_asking(settings, store),
    )
    handler = ServiceParts.open(settings, pipeline, store, launches_app=False).handler
    jobs, estimates = refresh_jobs(settings, store), fresh_estimates(settings, store)
    overlap = timedelta(seconds=settings.refresh_overlap_seconds)
    return [
        RefreshRounds(
            worker=RefreshWorker(
                server, jobs, estimates, handler, WriteBack(server, handler) if settings.write_back else None
            ),
            poller=Poller(server, jobs, overlap) if poll else None,
            estimates=estimates,
            leases=leases,
            every=timedelta(seconds=settings.refresh_poll_seconds),
            oldest=timedelta(hours=settings.refresh_hours),
            say=lambda line: click.echo(line, err=True),
        )
        for server in servers
    ]


def print_writes(rounds: list[RefreshRounds]) -> None:
    """Prints what would be written for every inpatient. Raises Exit 3 where a server could not be read."""
    from cds_service.config.modes import MODE_OF, Mode
    from cds_service.net.gateway import GatewayError
    from cds_service.refresh.dry_run import dry_run
    from cds_service.refresh.write_back import WriteBack

    failed = False
    for each in rounds:
        worker = each.worker
        mode = worker.handler.modes.of(MODE_OF, worker.server.client.tenant)
        if mode is not Mode.LIVE:
            click.echo(f"the mode is {mode}: nothing would be written now; this is what live would write", err=True)
        try:
            for write in dry_run(worker, WriteBack(worker.server, worker.handler), each.say):
                click.echo(orjson.dumps(write).decode())
        except GatewayError as error:
            failed = True
            click.echo(f"{worker.server.name}: the server could not be read: {each.words(error)}", err=True)
    if failed:
        raise click.exceptions.Exit(3)


def run(rounds: list[RefreshRounds], once: bool) -> None:
    """Runs the rounds in turn; with `once` until nothing waits that could be done."""
    said = 0
    while True:
        worked = [each.run_once() for each in rounds]
        done = sum(each.worker.tally.estimated for each in rounds)
        if done - said >= SAID_EVERY:
            said = done
            waiting = sum(each.worker.jobs.queue.waiting(each.worker.server.name) for each in rounds)
            click.echo(f"{done} estimated, {waiting} waiting", err=True)
        if any(worked):
            continue
        if once and all(each.failed or each.is_idle or not each.worker.tasks() for each in rounds):
            break
        time.sleep(IDLE_SECONDS)
    for each in rounds:
        tally = each.worker.tally
        waiting = each.worker.jobs.queue.waiting(each.worker.server.name)
        off = "" if each.worker.tasks() else "; the mode is off: nothing was read"
        click.echo(
            f"{each.worker.server.name}: {tally.estimated} estimated, {tally.left} not in hospital, "
            f"{tally.put_off} put off, {tally.given_up} given up, {waiting} waiting{off}",
            err=True,
        )
