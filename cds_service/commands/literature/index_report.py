"""Shared by the `riskcards index` commands: folder names, progress and output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

from knowledge_index import ArticleError, KnowledgeIndex
from knowledge_index.sources import CollectedArticles

REFUSED_SHOWN = 10
_STARTER_FOLDER = "starter"


def path_of(folder: str) -> Path:
    """Returns the index folder; `starter` is the shipped index, unless a folder of that name holds one."""
    path = Path(folder)
    if folder == _STARTER_FOLDER and not (path / "manifest.json").exists():
        return KnowledgeIndex.starter_folder()
    return path


@contextmanager
def bar(label: str, length: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; `progress(done, total)` moves it to `done`."""
    with click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True) as shown:

        def move(done: int, total: int) -> None:
            shown.length = total
            shown.update(done - shown.pos)

        yield move


def count_records(read: int) -> None:
    """Prints a running count: the total is unknown until the files end."""
    if read % 500 == 0:
        click.echo(f"\rreading   {read:,} records", nl=False, err=True)


def report_records(collected: CollectedArticles) -> None:
    """Prints skipped records with file and position, and notices about kept ones, to standard error."""
    for error in collected.refused[:REFUSED_SHOWN]:
        click.echo(f"left out: {error}", err=True)
    more = len(collected.refused) - REFUSED_SHOWN
    if more > 0:
        click.echo(f"left out: {more:,} more; --json lists them all", err=True)
    for what, noticed in collected.noticed.items():
        others = ", ..." if noticed.count > len(noticed.places) else ""
        click.echo(f"noticed:  {noticed.count:,} x {what}: {'; '.join(noticed.places)}{others}", err=True)


def records_json(collected: CollectedArticles) -> dict[str, Any]:
    """Returns the same as JSON values, with every refused record."""
    return {
        "read": collected.read,
        "refused": len(collected.refused),
        "duplicates": collected.duplicates,
        "deleted": collected.deleted,
        "refused_records": [_refused(error) for error in collected.refused],
        "noticed": {
            what: {"count": noticed.count, "first": noticed.places} for what, noticed in collected.noticed.items()
        },
    }


def _refused(error: ArticleError) -> dict[str, str]:
    return {"file": error.file, "record": error.record, "error": str(error)}


def size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
