"""`riskcards outcomes`: imports actual outcomes, for monitoring calibration at this site."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.opened import config_option
from cds_service.commands.shared.running import operator, service_database, unused_option
from cds_service.store.store import CardTasks, Store
from risk_model import TASKS

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_KEYS = {"card": "card", "hook_instance": "hook_instance", "hookinstance": "hook_instance", "stay": "stay"}
"""Column, in lower case -> what it names."""
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the file: `place` is the column that says which cards are meant, and its value."""

    line: int
    place: tuple[str, str]
    task: str
    happened: bool


@click.group(name="outcomes")
def command() -> None:
    """Import actual outcomes, so that `riskcards monitor` can measure calibration.

    \b
    riskcards outcomes import outcomes.csv       columns: card, task, happened (1 or 0)

    Instead of `card` a column `hook_instance` (of the hook's request) or `stay` (the id of the encounter) may say which
    cards are meant. An outcome that is known and differs is corrected.
    """


@command.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@unused_option
@config_option
@click.pass_context
def import_(ctx: click.Context, file: Path, unused: bool, config: Path | None) -> None:
    """Import a CSV with the columns task, happened, and card, hook_instance or stay.

    If a row is invalid, nothing is imported: an unknown card, a task that its card has no estimate for, two rows that
    contradict each other.
    """
    rows, faults = _read(file)
    database = service_database(config)
    with database.opened(unused) as store:
        outcomes = _resolved(store, rows, faults)
        if faults:
            for fault in faults[:_SHOWN]:
                click.echo(f"riskcards: {file.name}: {fault}", err=True)
            if len(faults) > _SHOWN:
                click.echo(f"riskcards: {file.name}: and {len(faults) - _SHOWN} more", err=True)
            ctx.exit(BAD_INPUT)
        new, corrected = store.add_outcomes([(*place, happened) for place, happened in outcomes.items()], operator())
    known = len(outcomes) - new - corrected
    click.echo(f"{new} outcomes kept, {known} known already, {corrected} corrected in {database.name}")


def _resolved(store: Store, rows: list[_Row], faults: list[str]) -> dict[tuple[str, str], bool]:
    """(card, task) -> outcome, for every card that a row means; what is wrong is added to `faults`."""
    found: dict[tuple[str, str], bool] = {}
    lines: dict[tuple[str, str], int] = {}
    for row in rows:
        name, value = row.place
        cards = store.cards_with(**{name: value})
        fault = _fault(row, cards)
        if fault:
            faults.append(f"line {row.line}: {fault}")
            continue
        for card in (card.uuid for card in cards if row.task in card.tasks):
            first = lines.setdefault((card, row.task), row.line)
            if found.setdefault((card, row.task), row.happened) is not row.happened:
                faults.append(f"line {row.line}: contradicts line {first}")
                break
    return found


def _fault(row: _Row, cards: list[CardTasks]) -> str:
    name, value = row.place
    if not cards:
        return f"unknown {name} {value[:40]}"
    if len({card.patient for card in cards}) > 1:
        return f"{name} {value[:40]} is of several patients or clients: name the card"
    if not any(row.task in card.tasks for card in cards):
        known = ", ".join(sorted({task for card in cards for task in card.tasks if task})) or "no task"
        return f"{name} {value[:40]} has no estimate of {row.task}; it has {known}"
    return ""


def _read(file: Path) -> tuple[list[_Row], list[str]]:
    faults: list[str] = []
    try:
        return list(_rows(file, faults)), faults
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [f"not a CSV file in UTF-8 ({error})"]


def _rows(file: Path, faults: list[str]) -> Iterator[_Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        columns = {name: (name or "").strip().lower() for name in reader.fieldnames or ()}
        given = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        twice = sorted({name for name in given if name and given.count(name) > 1})
        if twice:
            faults.append(f"the column {twice[0]} stands twice: one would be lost")
            return
        missing = {"task", "happened"} - set(columns.values())
        if not set(columns.values()) & set(_KEYS):
            missing.add("card (or hook_instance, or stay)")
        if missing:
            faults.append(f"the columns {', '.join(sorted(missing))} are missing")
            return
        for cells in reader:
            number = reader.line_num
            row = {columns[name]: (cell or "").strip() for name, cell in cells.items() if name in columns}
            places = [(_KEYS[name], row[name]) for name in _KEYS if row.get(name)]
            happened = _TRUTH.get(row["happened"].lower())
            if None in cells:
                faults.append(f"line {number}: more cells than columns")
            elif happened is None:
                faults.append(f"line {number}: happened must be 1 or 0")
            elif row["task"] not in TASKS:
                faults.append(f"line {number}: task must be one of {', '.join(TASKS)}")
            elif len(places) != 1:
                faults.append(f"line {number}: exactly one of card, hook_instance and stay says which card is meant")
            else:
                yield _Row(number, places[0], row["task"], happened)
