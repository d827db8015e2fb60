"""`riskcards replay`: recomputes the estimates of a past card from its recorded inputs."""

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
    """Recompute the estimates of card UUID from its recorded inputs and compare them bit for bit.

    Exit code 3 if the card is unknown, was made by another model, or the results differ.

    \b
    riskcards replay 6f1d0c7e-2b7e-4d57-8a26-0f8f4f0b9a11
    """
    from risk_model import RiskModel
    from risk_model.models import shipped_folder

    with opened_store(config) as store:
        kept = store.card_record(uuid)
    if kept is None:
        click.echo(f"riskcards: unknown card {uuid} (never sent, or removed by retention)", err=True)
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
