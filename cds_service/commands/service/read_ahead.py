"""`riskcards read-ahead`: the worker that has language models read what hooks left."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cds_service.commands.shared.opened import config_option, log_to_stderr, opened_settings, opened_store
from cds_service.config.settings import Settings

if TYPE_CHECKING:
    from cds_service.background.read_ahead import QueueWorker

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
    """Read notes ahead of the hooks, with the language model of RISKCARDS_NOTE_READER and those that are first stages.

    \b
    RISKCARDS_NOTE_READER=smollm2 riskcards serve --insecure
    RISKCARDS_NOTE_READER=smollm2 riskcards read-ahead

    A hook that finds notes which no language model has read yet is answered by the rules, and leaves the notes,
    encrypted, in the store. This reads them and keeps what they say for the next hook. Models of RISKCARDS_MODELS whose
    first stage is a language model leave passages of notes in the same way; this asks that model about them. It needs
    the same settings and the same session key file as the service, and may run on another machine, one with a GPU.
    Several may run: a note is read by one of them, and what a worker was at when it was killed is done by another.
    """
    from cds_service.background.leases import Leases
    from cds_service.background.read_ahead import HELD, ReadAhead, open_vault

    settings = opened_settings(config)
    log_to_stderr(settings.log_level)
    desks = desks_of(settings, batch)
    if not desks:
        raise click.UsageError(
            "RISKCARDS_NOTE_READER is rules, and no model of RISKCARDS_MODELS has a language model as its first stage: "
            "nothing has to be read ahead"
        )
    with opened_store(config) as store, Leases(store.sealed, HELD, lease) as leases:
        worker = ReadAhead(open_vault(settings, store), [desk for _, desk in desks], leases)
        names = " and ".join(dict.fromkeys(name for name, _ in desks))
        click.echo(f"{names} reads; {worker.waiting()} notes and passages wait", err=True)
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


def desks_of(settings: Settings, batch: int) -> list[tuple[str, QueueWorker[Any, Any]]]:
    """The work of this worker, with the name of the model that does it; a model that has two kinds is opened once."""
    from cds_service.background.language_models import ModelServers, OpenedModels, asking_models, stage1_name
    from cds_service.background.read_ahead import NOTES, QueueWorker, windows_for
    from knowledge_index import KnowledgeIndex
    from risk_model import RuleNoteReader
    from risk_model.first_stage import ask_model
    from risk_model.llm import RULES, ReaderName
    from risk_model.llm_reader import LanguageNoteReader

    opened = OpenedModels(ModelServers.of(settings))

    def at_once(name: str) -> int:
        return batch if ReaderName.of(name).kind == "local" else 1

    found: list[tuple[str, QueueWorker[Any, Any]]] = []
    name = settings.note_reader
    if ReaderName.of(name).kind != RULES:
        index = KnowledgeIndex.open(Path(settings.index)) if settings.index else KnowledgeIndex.open_starter()
        rules = RuleNoteReader(index, embed=False)
        reader = LanguageNoteReader(opened(name), rules, note_seconds=10 * settings.note_reader_seconds)
        found.append((name, QueueWorker(NOTES, reader.read_many, at_once(name))))
    stages = {m.asks.fingerprint: stage1_name(settings, m) for m in asking_models(settings) if m.asks is not None}
    for mark, name in stages.items():
        answers = partial(ask_model, opened(name), seconds=settings.note_reader_seconds)
        found.append((name, QueueWorker(windows_for(mark), answers, at_once(name))))
    return found
