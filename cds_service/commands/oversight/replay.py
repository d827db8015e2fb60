"""`riskcards replay`: recomputes the estimates of a past card from its recorded inputs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import orjson

from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.opened import config_option
from cds_service.commands.shared.running import service_database, unused_option
from cds_service.hooks.estimate_records import replay


@click.command(name="replay")
@click.argument("uuid")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@unused_option
@config_option
@click.pass_context
def command(ctx: click.Context, uuid: str, as_json: bool, unused: bool, config: Path | None) -> None:
    """Recompute the estimates of card UUID from its recorded inputs and compare them bit for bit.

    Exit code 3 if the card is unknown, was made by another model, or the results differ.

    \b
    riskcards replay 6f1d0c7e-2b7e-4d57-8a26-0f8f4f0b9a11
    """
    from risk_model import RiskModel
    from risk_model.models import shipped_folder

    database = service_database(config)
    with database.opened(unused) as store:
        kept = store.card_record(uuid)
    if kept is None:
        click.echo(f"riskcards: unknown card {uuid} in {database.name} (never sent, or removed by retention)", err=True)
        ctx.exit(BAD_INPUT)
    models = database.settings.models
    found = []
    for estimate in kept["estimates"]:
        folder = Path(models) / estimate["task"] if models else shipped_folder(estimate["task"])
        found.append(replay(estimate, RiskModel.open(folder)))
    if as_json:
        rows = [asdict(r) | {"same": r.same} for r in found]
        click.echo(orjson.dumps({"database": database.name, "card": uuid, "estimates": rows}).decode())
    else:
        click.echo(f"database {database.name}")
        for result in found:
            words = result.note or ("abstained" if result.recorded is None else f"{result.recorded!r}")
            click.echo(f"{result.task:<24}{'same' if result.same else 'DIFFERS'}  {words}")
    if not all(result.same for result in found):
        ctx.exit(BAD_INPUT)
