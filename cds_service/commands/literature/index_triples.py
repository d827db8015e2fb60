"""`--triples` of `riskcards index build` and `update`: extracts relations between concepts from articles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import click

from cds_service.background.language_models import ModelServers
from cds_service.commands.shared.opened import opened_settings
from knowledge_index import SourceError
from knowledge_index.graph import Ask, GivenTriples, ModelTripleExtractor, RuleTripleExtractor, TripleQuestion
from knowledge_index.indexing import Statements
from knowledge_index.sources import SOURCES, annotated_triples, files_of
from knowledge_index.vocabulary import Linker
from risk_model.core import LanguageModelError
from risk_model.llm import RULES, LanguageModel, ReaderName, ReaderNameError, language_model
from risk_model.prompts import Message

HELP = (
    "Also extract relations between concepts (X induces Y): by rules, from the relations in the given PubTator or "
    "BioC JSON files (pubtator), or by a language model: llm:smollm2, llm:FOLDER, llm:https://HOST/v1#MODEL."
)
_MODEL = "llm:"
_SECONDS_FOR_ONE = 120.0


@dataclass(slots=True)
class TripleOptions:
    """The extractor of `--triples`. After the build `counts` has the numbers of kept and dropped answers."""

    statements: Statements | None = None
    counts: Counter[str] | None = None


def reading(
    triples: str | None, source: str, files: Iterable[Path], annotations: Iterable[Path], out: Path
) -> TripleOptions:
    """Returns the extractor. Raises UsageError for an unknown value, or for relations without a file of them."""
    if triples is None:
        return TripleOptions()
    if triples == "rules":
        return TripleOptions(RuleTripleExtractor)
    if triples == "pubtator":
        given_as = SOURCES[source][1] if source in ("pubtator", "bioc") else ()
        marked = [*(files_of(files, given_as) if given_as else ()), *annotations]
        if not marked:
            raise click.UsageError("--triples pubtator needs --source pubtator or bioc, or --annotations")
        given = annotated_triples(marked)
        return TripleOptions(lambda linker: GivenTriples(given))
    if not triples.startswith(_MODEL) or triples in (_MODEL, _MODEL + RULES):
        raise click.UsageError(
            f"--triples {triples}: expected rules, pubtator, llm:smollm2, llm:FOLDER or llm:URL#MODEL"
        )
    return model_reading(triples.removeprefix(_MODEL), out.with_name(out.name + ".answers"))


def model_reading(name: str, answers: Path) -> TripleOptions:
    """Returns the extractor of a local or served model; its answers are cached beside the index."""
    try:
        model = language_model(
            ReaderName.of(name), ModelServers.of(opened_settings()), deidentify=False
        )  # published text
    except ReaderNameError as error:
        raise click.UsageError(f"--triples {_MODEL}{name}: {error}") from None
    counts: Counter[str] = Counter()

    def made(linker: Linker) -> ModelTripleExtractor:
        return ModelTripleExtractor(linker, asking(model), f"{model.name} {model.fingerprint}", answers, counts)

    return TripleOptions(made, counts)


@dataclass(frozen=True, slots=True)
class _Asked:
    messages: tuple[Message, ...]
    grammar: str
    schema: Mapping[str, Any]


def asking(model: LanguageModel) -> Ask:
    """Adapts a language model to the interface of `knowledge_index`."""

    def ask(question: TripleQuestion) -> str:
        messages = (Message("system", question.system), Message("user", question.user))
        prompt = _Asked(messages, question.grammar, question.schema)
        try:
            return model.answer(prompt, max_tokens=400, deadline=monotonic() + _SECONDS_FOR_ONE)
        except LanguageModelError as error:
            raise SourceError(f"the language model gave no answer: {error}", passing=True) from error

    return ask


def report_triples(read: TripleOptions) -> None:
    """Prints the numbers of kept and dropped model answers to standard error."""
    if read.counts:
        click.echo("statements: " + " · ".join(f"{what} {n:,}" for what, n in sorted(read.counts.items())), err=True)
