"""`riskcards replay`: an answered card's estimates computed again from what was kept."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import orjson

from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.opened import config_option, opened_settings, opened_store
from cds_service.hooks.estimate_records import replay


@click.command(name="replay")
@click.argument("uuid")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@config_option
@click.pass_context
def command(ctx: click.Context, uuid: str, as_json: bool, config: Path | None) -> None:
    """Put the recorded inputs of card UUID through the model again and compare, bit for bit.

    Exit code 3 when the card is not known, was made by another model, or gives another number.

    \b
    riskcards replay 6f1d0c7e-2b7e-4d57-8a26-0f8f4f0b9a11
    """
    from risk_model import RiskModel
    from risk_model.models import shipped_folder

    with opened_store(config) as store:
        kept = store.card_record(uuid)
    if kept is None:
        click.echo(f"riskcards: no card {uuid} is kept (never sent, or retention has removed it)", err=True)
        ctx.exit(BAD_INPUT)
    models = opened_settings(config).models
    found = []
    for estimate in kept["estimates"]:
        folder = Path(models) / estimate["task"] if models else shipped_folder(estimate["task"])
        found.append(replay(estimate, RiskModel.open(folder)))
    if as_json:
        rows = [asdict(r) | {"same": r.same} for r in found]
        click.echo(orjson.dumps({"card": uuid, "estimates": rows}).decode())
    else:
        for result in found:
            words = result.note or ("abstained" if result.recorded is None else f"{result.recorded!r}")
            click.echo(f"{result.task:<24}{'same' if result.same else 'DIFFERS'}  {words}")
    if not all(result.same for result in found):
        ctx.exit(BAD_INPUT)
