"""`riskcards read-ahead`: the worker that runs language models on queued notes."""

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
@click.option("--once", is_flag=True, help="Process the queue once, then exit.")
@click.option(
    "--batch", default=8, show_default=True, type=click.IntRange(1), help="Notes that a local model reads at once."
)
@click.option(
    "--lease", default=30.0, show_default=True, type=click.FloatRange(1),
    help="Seconds after which another worker takes over the notes of a stopped one.",
)  # fmt: skip
def command(config: Path | None, once: bool, batch: int, lease: float) -> None:
    """Read queued notes with the language model of RISKCARDS_NOTE_READER and those of first stages.

    \b
    RISKCARDS_NOTE_READER=smollm2 riskcards serve --insecure
    RISKCARDS_NOTE_READER=smollm2 riskcards read-ahead

    A hook never waits for a language model: it is answered by the rules, and its new notes are queued, encrypted, in
    the store. This worker reads them and stores the findings for the next hook. Passages for models of RISKCARDS_MODELS
    whose first stage is a language model are queued in the same way. The worker needs the settings and session key file
    of the service and may run on another machine, such as one with a GPU. Several workers may run: each note is read by
    one of them, and another takes over if a worker is killed. While everything is switched off nothing is read.
    """
    from cds_service.background.leases import Leases
    from cds_service.background.read_ahead import HELD, ReadAhead, open_vault
    from cds_service.config.modes import Mode, ModeBoard

    settings = opened_settings(config)
    log_to_stderr(settings.log_level)
    desks = desks_of(settings, batch)
    if not desks:
        raise click.UsageError(
            "RISKCARDS_NOTE_READER is rules, and no model of RISKCARDS_MODELS has a language model as its first stage: "
            "there is nothing to read ahead; set RISKCARDS_NOTE_READER to a language model"
        )
    with opened_store(config, keyless=True) as store, Leases(store.sealed, HELD, lease) as leases:
        worker = ReadAhead(open_vault(settings, store), [desk for _, desk in desks], leases)
        names = " and ".join(dict.fromkeys(name for name, _ in desks))
        click.echo(f"reading with {names}; {worker.waiting()} notes and passages queued", err=True)
        modes = ModeBoard(store, Mode(settings.mode))
        while True:
            if modes.all_off:  # what was queued before the kill switch waits for its end
                if once:
                    click.echo("everything is switched off (`riskcards mode`): nothing is read", err=True)
                    break
                time.sleep(EMPTY_SECONDS)
                continue
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
    """Returns the queues of this worker with their model names; a model with two queues is opened once."""
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
