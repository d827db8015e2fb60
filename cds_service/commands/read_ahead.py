"""`riskcards read-ahead`: the worker that has a language model read the notes that hooks left."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import click

from cds_service.commands.opened import config_option, opened_settings, opened_store

EMPTY_SECONDS, FAILED_SECONDS = 1.0, 5.0


@click.command(name="read-ahead")
@config_option
@click.option("--once", is_flag=True, help="Read what is there, then end.")
@click.option(
    "--batch", default=8, show_default=True, type=click.IntRange(1), help="Notes a local model reads at once."
)
@click.option(
    "--lease", default=30.0, show_default=True, type=click.FloatRange(1),
    help="Seconds after which the notes of a worker that died are another's.",
)  # fmt: skip
def command(config: Path | None, once: bool, batch: int, lease: float) -> None:
    """Read notes ahead of the hooks, with the language model of RISKCARDS_NOTE_READER.

    \b
    RISKCARDS_NOTE_READER=smollm2 riskcards serve --insecure
    RISKCARDS_NOTE_READER=smollm2 riskcards read-ahead

    A hook that finds notes which no language model has read yet is answered by the rules, and leaves the notes,
    encrypted, in the store. This reads them and keeps what they say for the next hook. It needs the same settings and
    the same session key file as the service, and may run on another machine, one with a GPU. Several may run: a note is
    read by one of them, and what a worker was reading when it was killed is read by another.
    """
    from cds_service.language import ModelServers
    from cds_service.leases import Leases
    from cds_service.read_ahead import HELD, ReadAhead, open_vault
    from knowledge_index import KnowledgeIndex
    from risk_model import RuleNoteReader
    from risk_model.language.named import RULES, ReaderName, language_model
    from risk_model.language.reader import LanguageNoteReader

    settings = opened_settings(config)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s level=%(levelname)s %(message)s")
    name = ReaderName.of(settings.note_reader)
    if name.kind == RULES:
        raise click.UsageError("RISKCARDS_NOTE_READER is rules: nothing has to be read ahead")
    index = KnowledgeIndex.open(Path(settings.index)) if settings.index else KnowledgeIndex.open_starter()
    model = language_model(name, ModelServers.of(settings))
    rules = RuleNoteReader(index, embed=False)
    reader = LanguageNoteReader(model, rules, note_seconds=10 * settings.note_reader_seconds)
    with opened_store(config) as store, Leases(store.sealed, HELD, lease) as leases:
        worker = ReadAhead(open_vault(settings, store), reader, leases, batch if name.kind == "local" else 1)
        click.echo(f"{settings.note_reader} reads; {worker.waiting()} notes wait", err=True)
        while True:
            failed = worker.failed
            if worker.step():
                if worker.failed > failed:
                    time.sleep(0 if once else FAILED_SECONDS)
            elif once and not worker.waiting():
                break
            else:
                time.sleep(EMPTY_SECONDS)
    click.echo(f"{worker.read} read, {worker.failed} attempts failed", err=True)
