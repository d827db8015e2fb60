"""Shared by the commands that train and evaluate: the note reader, the encoder, and progress output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from cds_service.background.language_models import OpenedModels
    from knowledge_index import Encoder, KnowledgeIndex
    from risk_model import RiskModel
    from risk_model.evaluation import DatasetSources
    from risk_model.llm import ReaderName
    from risk_model.pipeline import NoteReaderWrapper

READER_HELP = (
    "rules, smollm2, a .gguf file, a model folder (+ADAPTER), or https://HOST/v1#MODEL: see docs/language-models.md."
)
ENCODER_HELP = "minilm, static, hf:FOLDER, a family with a folder (medcpt:FOLDER), or a file: see docs/encoders.md."

_SILENCE = 30.0
"""Seconds without output after which the next row is reported."""


def open_sources(
    encoder: str | None,
    note_reader: str | None,
    evidence: bool = False,
    models: OpenedModels | None = None,
    beside: Path | None = None,
) -> DatasetSources:
    """Returns the encoder and note reader of these names; what is not named is not opened.

    Language model readings and vectors of custom encoders are cached `beside` an output, so that a run can resume.

    Raises EncoderError for an unknown encoder.
    """
    from knowledge_index.encoders import available_threads, encoder_named
    from risk_model.evaluation import DatasetSources

    opened = None if encoder is None else keeping(encoder_named(encoder, available_threads()), encoder, beside)
    if note_reader is None:
        return DatasetSources(encoder=opened)
    from knowledge_index import KnowledgeIndex
    from risk_model import Pipeline, RuleNoteReader

    index = KnowledgeIndex.open_starter()
    kept = None if beside is None else beside.with_name(f"{beside.name}.readings.jsonl")
    reader = open_reader(note_reader, models, kept)(RuleNoteReader(index))
    return DatasetSources(reader, opened, Pipeline(index, reader, {}).evidence_for if evidence else None)


def sources_of(model: RiskModel) -> DatasetSources:
    """Returns the encoder and note reader that a model was trained with."""
    from cds_service.background.language_models import asked_at_once
    from cds_service.commands.shared.opened import opened_settings

    reader, opened = model.manifest.get("note_reader"), opened_models()
    named = None if reader is None else str(reader)
    # The manifest names a language model as `language:NAME`; any other reader is the rules.
    said = named.removeprefix("language:") if named and named.startswith("language:") else named and "rules"
    sources = open_sources(model.manifest.get("encoder"), said, model.reads_evidence, opened)
    if model.asks is None:
        return sources
    opining = asked_at_once(opened_settings(), opened)(model)
    return replace(sources, opining=opining, literature=literature() if model.asks.evidence else None)


def literature() -> KnowledgeIndex:
    """Returns the index whose passages a first stage's language model is shown in training and evaluation."""
    from knowledge_index import KnowledgeIndex

    return KnowledgeIndex.open_starter()


def opened_model(folder: Path) -> tuple[RiskModel, DatasetSources]:
    """Returns a model and the encoder and note reader it was trained with."""
    from risk_model import RiskModel

    model = RiskModel.open(folder)
    return model, sources_of(model)


def unspoken(rows: int) -> str:
    """Returns what is said of rows whose language model did not answer."""
    return f"{rows} rows are evaluated without their first stage: its language model gave no usable answer"


def opened_models() -> OpenedModels:
    """Returns language models by name, each opened once; servers as configured in the settings."""
    from cds_service.background.language_models import ModelServers, OpenedModels
    from cds_service.commands.shared.opened import opened_settings

    return OpenedModels(ModelServers.of(opened_settings()))


def keeping(encoder: Encoder, name: str, beside: Path | None) -> Encoder:
    """Returns the encoder with a vector cache; a shipped encoder is too fast to need one."""
    from knowledge_index.encoders import SHIPPED, CachedEncoder

    if beside is None or name in SHIPPED:
        return encoder
    return CachedEncoder(encoder, beside.with_name(f"{beside.name}.vectors"))


def open_reader(name: str, opened: OpenedModels | None = None, kept: Path | None = None) -> NoteReaderWrapper:
    """Returns the wrapper that adds the named note reader to the rules. Raises UsageError for an unknown name."""
    from cds_service.background.language_models import reader_named

    checked_name(name)
    models = opened or opened_models()
    return lambda rules: reader_named(name, rules, models, kept)


def checked_name(name: str) -> ReaderName:
    """Parses the name of a note reader. Raises UsageError for an unknown name."""
    from risk_model.llm import ReaderName, ReaderNameError

    try:
        return ReaderName.of(name)
    except ReaderNameError as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yields `progress(done, total)`: a bar on a terminal, else a line for each tenth of the rows and at least every
    half minute, as a language model may need that long for one row."""
    if sys.stderr.isatty():
        with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

            def move(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            yield move
        return

    reported, tenths = time.monotonic(), 0

    def report(done: int, total: int) -> None:
        nonlocal reported, tenths
        reached = 10 * done // max(1, total)
        if done == total or reached > tenths or time.monotonic() - reported > _SILENCE:
            reported, tenths = time.monotonic(), reached
            report_line(f"{label}: {done} of {total}")

    yield report


def report_line(message: str) -> None:
    click.echo(message, err=True)
