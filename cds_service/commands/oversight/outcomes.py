"""`riskcards outcomes`: imports actual outcomes, for monitoring calibration at this site."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.opened import config_option, opened_store
from risk_model import TASKS

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@click.group(name="outcomes")
def command() -> None:
    """Import actual outcomes, so that `riskcards monitor` can measure calibration.

    \b
    riskcards outcomes import outcomes.csv       columns: card, task, happened (1 or 0)
    """


@command.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@click.pass_context
def import_(ctx: click.Context, file: Path, config: Path | None) -> None:
    """Import a CSV with the columns card, task and happened. If a row is invalid, nothing is imported."""
    outcomes, faults = _read(file)
    with opened_store(config) as store:
        for number, (card, _, _) in outcomes.items():
            if store.card_service(card) is None:
                faults.append(f"line {number}: unknown card {card[:40]}")
        if faults:
            for fault in faults[:20]:
                click.echo(f"riskcards: {file.name}: {fault}", err=True)
            ctx.exit(BAD_INPUT)
        new = store.add_outcomes(list(outcomes.values()))
    click.echo(f"{new} outcomes kept, {len(outcomes) - new} known already")


def _read(file: Path) -> tuple[dict[int, tuple[str, str, bool]], list[str]]:
    try:
        return _rows(file)
    except (UnicodeDecodeError, csv.Error) as error:
        return {}, [f"not a CSV file in UTF-8 ({error})"]


def _rows(file: Path) -> tuple[dict[int, tuple[str, str, bool]], list[str]]:
    rows: dict[int, tuple[str, str, bool]] = {}
    faults: list[str] = []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"card", "task", "happened"} - set(reader.fieldnames or ())
        if missing:
            return {}, [f"the columns {', '.join(sorted(missing))} are missing"]
        for number, row in enumerate(reader, start=2):
            happened = _TRUTH.get((row["happened"] or "").strip().lower())
            if happened is None:
                faults.append(f"line {number}: happened must be 1 or 0")
            elif row["task"] not in TASKS:
                faults.append(f"line {number}: task must be one of {', '.join(TASKS)}")
            else:
                rows[number] = (str(row["card"]), row["task"], happened)
    return rows, faults
