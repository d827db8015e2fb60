"""`riskcards audit`: verify, list, export and purge the audit chain."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson

from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.opened import config_option
from cds_service.commands.shared.running import operator, service_database, unused_option
from cds_service.monitoring.audit_events import audit_event
from cds_service.store.audit import GENESIS
from cds_service.store.store import Store


@click.group(name="audit")
def command() -> None:
    """Verify, export and trim the audit chain of cards, feedback and mode changes.

    \b
    riskcards audit verify                       is every entry linked to the one before?
    riskcards audit head                         last entry's number, hash and signature, to keep elsewhere
    riskcards audit verify --head 1207:9f3c...   nothing was removed since then
    riskcards audit export --fhir > events.ndjson   for a FHIR audit repository
    riskcards audit purge --older-than 730       retention: deletes content, keeps the hashes
    """


@command.command()
@click.option("--head", help="NUMBER:HASH:SIGNATURE as `riskcards audit head` printed it.")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@unused_option
@config_option
@click.pass_context
def verify(ctx: click.Context, head: str | None, as_json: bool, unused: bool, config: Path | None) -> None:
    """Verify the whole chain and the tables it covers. Exit code 3 if it is broken; the first fault is named."""
    database = service_database(config)
    with database.opened(unused) as store:
        found = store.verify_audit()
        fault = found.fault or (_cut(store, head) if head else None)
    if as_json:
        answer = {"database": database.name, "entries": found.entries, "head": found.head, "fault": fault}
        click.echo(orjson.dumps(answer).decode())
    else:
        click.echo(f"database {database.name}")
        click.echo(
            f"broken: {fault}"
            if fault
            else f"{found.entries} {'entry' if found.entries == 1 else 'entries'}, chain intact"
        )
    if fault:
        ctx.exit(BAD_INPUT)


def _cut(store: Store, head: str) -> str | None:
    """The fault of a chain that does not have this head any more, or of a head this service did not sign."""
    number, _, rest = head.partition(":")
    digest, _, signature = rest.partition(":")
    if not number.isdigit():
        raise click.UsageError("--head: expected NUMBER:HASH:SIGNATURE as `riskcards audit head` prints it")
    if signature and not hmac.compare_digest(signature, store.sign_head(int(number), digest)):
        return f"the head {number} is not signed with this service's key"
    kept = store.audit_hash(int(number)) if int(number) else GENESIS
    if kept == digest:
        return None
    return f"entry {number} is {'another' if kept else 'missing'}: the chain was cut or rewritten"


@command.command()
@unused_option
@config_option
@click.pass_context
def head(ctx: click.Context, unused: bool, config: Path | None) -> None:
    """Print the last entry's NUMBER:HASH:SIGNATURE. Keep it where the database owner cannot change it.

    The signature is made with the key file of the database. Exit code 3 for a chain that is broken: it has no head.
    """
    with service_database(config).opened(unused) as store:
        found = store.verify_audit()
        signature = store.sign_head(found.entries, found.head)
    if found.fault:
        click.echo(f"riskcards: broken: {found.fault}", err=True)
        ctx.exit(BAD_INPUT)
    click.echo(f"{found.entries}:{found.head}:{signature}")


@command.command(name="list")
@click.option("--kind", help="Only entries of this kind: card, feedback, mode, foreign-patient, purge, outcomes.")
@click.option("--user", help="Only entries of this user, such as Practitioner/17: the chain has a hash of it.")
@unused_option
@config_option
def list_(kind: str | None, user: str | None, unused: bool, config: Path | None) -> None:
    """List the entries as JSON lines, oldest first."""
    with service_database(config).opened(unused) as store:
        wanted = None if user is None else store.user_hash(user)
        for entry in store.stream_audit(kind):
            if wanted is not None and (entry.body or {}).get("user_hash") != wanted:
                continue
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
@unused_option
@config_option
def export(after: int, unused: bool, config: Path | None) -> None:
    """Export the chain for an audit repository, without estimates and inputs; patients are keyed hashes."""
    database = service_database(config)
    with database.opened(unused) as store:
        for entry in store.stream_audit(after=after):
            click.echo(orjson.dumps(audit_event(entry, database.settings.public_url)).decode())


@command.command()
@click.option("--older-than", required=True, type=click.IntRange(1), help="Age in days.")
@unused_option
@config_option
def purge(older_than: int, unused: bool, config: Path | None) -> None:
    """Delete cards, estimates, feedback and outcomes older than this many days. The chain keeps their hashes.

    Works in small batches while the service runs. One that was interrupted is continued by the next.
    """
    database = service_database(config)
    with database.opened(unused) as store:
        gone = store.purge(datetime.now(UTC) - timedelta(days=older_than), operator())
    click.echo(f"{gone} cards removed from {database.name}")
