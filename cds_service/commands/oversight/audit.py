"""`riskcards audit`: verify, list, export and purge the audit chain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson

from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.opened import config_option, opened_settings, opened_store
from cds_service.monitoring.audit_events import audit_event


@click.group(name="audit")
def command() -> None:
    """Verify, export and trim the audit chain of cards, feedback and mode changes.

    \b
    riskcards audit verify                       is every entry linked to the one before?
    riskcards audit head                         last entry's number and hash, to keep elsewhere
    riskcards audit verify --head 1207:9f3c...   nothing was removed since then
    riskcards audit export --fhir > events.ndjson   for a FHIR audit repository
    riskcards audit purge --older-than 730       retention: deletes content, keeps the hashes
    """


@command.command()
@click.option("--head", help="NUMBER:HASH as `riskcards audit head` printed it.")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@config_option
@click.pass_context
def verify(ctx: click.Context, head: str | None, as_json: bool, config: Path | None) -> None:
    """Verify the whole chain. Exit code 3 if it is broken; the first broken entry is named."""
    with opened_store(config) as store:
        found = store.verify_audit()
        fault = found.fault or (_cut(store.audit_hashes(), head) if head else None)
    if as_json:
        click.echo(orjson.dumps({"entries": found.entries, "head": found.head, "fault": fault}).decode())
    else:
        click.echo(
            f"broken: {fault}"
            if fault
            else f"{found.entries} {'entry' if found.entries == 1 else 'entries'}, chain intact"
        )
    if fault:
        ctx.exit(BAD_INPUT)


def _cut(hashes: dict[int, str], head: str) -> str | None:
    number, _, digest = head.partition(":")
    if not number.isdigit():
        raise click.UsageError("--head: expected NUMBER:HASH as `riskcards audit head` prints it")
    kept = hashes.get(int(number))
    return (
        None
        if kept == digest
        else f"entry {number} is {'another' if kept else 'missing'}: the chain was cut or rewritten"
    )


@command.command()
@config_option
def head(config: Path | None) -> None:
    """Print the last entry's NUMBER:HASH. Keep it where the database owner cannot change it."""
    with opened_store(config) as store:
        found = store.verify_audit()
    click.echo(f"{found.entries}:{found.head}")


@command.command(name="list")
@click.option("--kind", help="Only entries of this kind: card, feedback, mode, foreign-patient, purge, outcomes.")
@config_option
def list_(kind: str | None, config: Path | None) -> None:
    """List the entries as JSON lines, oldest first."""
    with opened_store(config) as store:
        for entry in store.audit_entries(kind):
            click.echo(
                orjson.dumps(
                    {"seq": entry.seq, "at": entry.at, "kind": entry.kind, "subject": entry.subject, "body": entry.body}
                ).decode()
            )


@command.command()
@click.option(
    "--fhir", is_flag=True, required=True, expose_value=False, help="As FHIR R4 AuditEvent, one a line (NDJSON)."
)
@click.option(
    "--after", default=0, type=click.IntRange(0), help="Only entries after this number, such as the last one exported."
)
@config_option
def export(after: int, config: Path | None) -> None:
    """Export the chain for an audit repository, without estimates and inputs; patients are salted hashes."""
    public_url = opened_settings(config).public_url
    with opened_store(config) as store:
        for entry in store.audit_entries():
            if entry.seq > after:
                click.echo(orjson.dumps(audit_event(entry, public_url)).decode())


@command.command()
@click.option("--older-than", required=True, type=click.IntRange(1), help="Age in days.")
@config_option
def purge(older_than: int, config: Path | None) -> None:
    """Delete cards, estimates, feedback and outcomes older than this many days. The chain keeps their hashes."""
    with opened_store(config) as store:
        gone = store.purge(datetime.now(UTC) - timedelta(days=older_than))
    click.echo(f"{gone} cards removed")
