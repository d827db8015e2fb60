"""What the commands that learn and judge share: where stage 1 comes from, and a progress bar that counts rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from risk_model.pipeline import Wrap
    from risk_model.study import Sources

READER_HELP = "rules, smollm2, a model folder (+ADAPTER), or https://HOST/v1#MODEL: see docs/language-models.md."
ENCODER_HELP = "minilm, static, hf:FOLDER, a family with a folder (medcpt:FOLDER), or a file: see docs/encoders.md."


def open_sources(encoder: str | None, note_reader: str | None, evidence: bool = False) -> Sources:
    """Stage 1 by name; nothing is opened that is not asked for. Raises EncoderError for an unknown encoder."""
    from knowledge_index.encoder import available_threads, encoder_named
    from risk_model.study import Sources

    opened = None if encoder is None else encoder_named(encoder, available_threads())
    if note_reader is None:
        return Sources(encoder=opened)
    from knowledge_index import KnowledgeIndex
    from risk_model import Pipeline, RuleNoteReader

    index = KnowledgeIndex.open_starter()
    reader = open_reader(note_reader)(RuleNoteReader(index))
    return Sources(reader, opened, Pipeline(index, reader, {}).evidence_for if evidence else None)


def sources_of(manifest: Mapping[str, Any], *, evidence: bool) -> Sources:
    """The stage 1 a model was trained with."""
    reader = manifest.get("note_reader")
    named = None if reader is None else str(reader)
    # A language model's readings are kept under its name; all others were the rules'.
    said = named.removeprefix("language:") if named and named.startswith("language:") else named and "rules"
    return open_sources(manifest.get("encoder"), said, evidence)


def open_reader(name: str) -> Wrap:
    """What sets the note reader of a name over the rules; a name that is none is wrong use."""
    from cds_service.commands.opened import opened_settings
    from cds_service.language import ModelServers, reader_named
    from risk_model.language.named import ReaderName, ReaderNameError

    try:
        ReaderName.of(name)
    except ReaderNameError as error:
        raise click.UsageError(str(error)) from None
    servers = ModelServers.of(opened_settings())
    return lambda rules: reader_named(name, rules, servers)


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """`progress(done, total)`: a bar on a terminal, a line for each tenth elsewhere."""
    if sys.stderr.isatty():
        with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

            def move(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            yield move
        return

    def tell(done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            say(f"{label}: {done} of {total}")

    yield tell


def say(message: str) -> None:
    click.echo(message, err=True)
