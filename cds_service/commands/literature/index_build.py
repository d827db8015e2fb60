"""`riskcards index build` and `update`: index folders from article sources."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from artifact_store import Workers
from cds_service.commands.literature.index_report import (
    bar,
    count_records,
    print_json,
    records_json,
    report_records,
    size,
)
from cds_service.commands.literature.index_store import store_option, write_vectors_to
from cds_service.commands.literature.index_triples import HELP as TRIPLES_HELP
from cds_service.commands.literature.index_triples import reading, report_triples
from cds_service.commands.shared.model_sources import ENCODER_HELP
from cds_service.commands.shared.parallel import engine_option
from cds_service.net.eutils import NCBI, eutils_fetch
from knowledge_index import Article, Encoder, build_index, compact_index, update_index
from knowledge_index.core import read_manifest
from knowledge_index.encoders import DEFAULT, available_threads, encoder_named
from knowledge_index.indexing import Engine, encode_in_process, encode_on, starter_articles
from knowledge_index.sources import (
    SOURCES,
    CollectedArticles,
    Eutils,
    SpooledArticles,
    collect_articles,
    read_annotations,
)
from knowledge_index.vocabulary import vocabulary_named

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """The options that `build` and `update` share, by their names in `shared_options`."""

    annotations: tuple[Path, ...]
    triples: str | None
    limit: int | None
    api_key: str | None
    eutils_url: str
    workers: int | None
    engine: str
    store: str | None
    as_json: bool

    def encoder(self, name: str) -> Encoder:
        return encoder_named(name, self.workers or available_threads())

    def counted_engine(self, encoder: Encoder) -> _CountedEngine:
        if self.engine == "local":
            return _CountedEngine(encode_in_process(encoder))
        workers = Workers(self.workers or available_threads(), self.engine)
        return _CountedEngine(encode_on(workers, partial(encoder_named, encoder.name)))


@dataclass(frozen=True, slots=True)
class ArticleSource:
    """The article source given by the options."""

    kind: str
    inputs: tuple[str, ...]
    options: SharedOptions

    def files(self, cache: Path) -> list[Path]:
        """Returns the files to read; a query's pages are fetched into `cache`. Raises UsageError for missing files."""
        if self.kind == "eutils":
            return self._fetched(" ".join(self.inputs), cache)
        paths = [Path(given) for given in self.inputs]
        for path in paths:
            if not path.exists():
                raise click.UsageError(f"INPUT {path} does not exist")
        return paths

    def _fetched(self, query: str, cache: Path) -> list[Path]:
        folder = cache / hashlib.sha256(query.encode()).hexdigest()[:16]
        client = Eutils(eutils_fetch(self.options.eutils_url), self.options.api_key)
        click.echo(f"PubMed results for {query!r} are saved in {folder}", err=True)
        with bar("fetching", 0) as progress:
            return client.download(query, folder, limit=self.options.limit, progress=progress)


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that `build` and `update` share; the command gets them as one `shared`."""
    options = (
        click.option("--annotations", multiple=True, type=_FILE, help="PubTator or BioC file of concepts to add."),
        click.option("--triples", metavar="HOW", help=TRIPLES_HELP),
        click.option("--limit", type=click.IntRange(1), help="eutils: most records."),
        click.option("--api-key", envvar="RISKCARDS_NCBI_API_KEY", help="eutils: NCBI API key; 10 requests/s, not 3."),
        click.option("--eutils-url", envvar="RISKCARDS_EUTILS_URL", default=NCBI, help="eutils: base URL of a mirror."),
        click.option("--workers", type=click.IntRange(1, 256), help="Parallel encoders.  [default: all processors]"),
        engine_option,
        store_option("Also write the vectors to this PostgreSQL (pgvector), in one transaction."),
        click.option("--json", "as_json", is_flag=True, help="Print the manifest and the counts as JSON."),
    )  # fmt: skip

    @wraps(command)
    def collecting(**given: Any) -> None:
        shared = SharedOptions(**{field.name: given.pop(field.name) for field in fields(SharedOptions)})
        command(**given, shared=shared)

    decorated: Callable[..., None] = collecting
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "--source",
    required=True,
    type=click.Choice([*SOURCES, "eutils", "starter"]),
    help="What INPUT is: PubMed baseline or update files, JSON lines, PubTator or BioC annotations, a PubMed query; "
    "or (without INPUT) the starter articles.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The index folder.")
@click.option(
    "--vocabulary",
    metavar="FILE",
    help="Additional concept names: NLM's MeSH descriptor file (XML or ASCII), or `lexicons`.",
)
@click.option("--encoder", default=DEFAULT, show_default=True, metavar="NAME", help=ENCODER_HELP)
@click.option("--resume", is_flag=True, help="Resume an interrupted build: only missing shards are encoded.")
@shared_options
def build(
    inputs: tuple[str, ...],
    source: str,
    out: Path,
    vocabulary: str | None,
    encoder: str,
    resume: bool,
    shared: SharedOptions,
) -> None:
    """Build an index from articles.

    \b
    riskcards index build --source pubmed-xml baseline/ updatefiles/ --out pubmed
    riskcards index build --source jsonl articles.jsonl.gz --out mine --annotations marked.pubtator.gz
    riskcards index build --source eutils "heart failure[mh] AND patient readmission[mh]" --out hf
    riskcards index build --source pubmed-xml baseline/ --out pubmed --engine ray --workers 16 --resume
    riskcards index build --source pubtator marked.pubtator.gz --out marked --triples pubtator

    INPUT is files or folders, plain or .gz. A JSON line is {"pmid", "title", "abstract", "mesh": [{"ui"?, "name",
    "major"}], "year"?, "references": [pmid]}. Unreadable records are reported with file and position and skipped; of
    two records with one PMID the last wins, and DeleteCitation removes articles. The folder is written atomically:
    searches use the old index until the end. A folder that contains anything but an index is not overwritten.

    An interrupted build keeps its shards in OUT.work: run it again with --resume. Exit codes: 0 built, 2 usage error,
    3 bad input (no usable record, an unreadable source).
    """
    if (source == "starter") == bool(inputs):
        raise click.UsageError("--source starter takes no INPUT" if inputs else f"--source {source} needs INPUT")
    read = reading(shared.triples, source, map(Path, inputs), shared.annotations, out)
    started = time.perf_counter()
    with _collected(ArticleSource(source, inputs, shared), _beside(out, ".eutils")) as collected:
        report_records(collected)
        made_by = shared.encoder(encoder)
        engine = shared.counted_engine(made_by)
        with bar("encoding", len(collected.articles)) as progress:
            manifest = build_index(
                collected.articles,
                out,
                made_by,
                progress=progress,
                source=source,
                resume=resume,
                engine=engine,
                vocabulary=vocabulary_named(vocabulary) if vocabulary else (),
                statements=read.statements,
            )
        write_vectors_to(shared.store, out, manifest)
        report_triples(read)
        seconds = time.perf_counter() - started
        if shared.as_json:
            print_json(
                records_json(collected)
                | {"seconds": round(seconds, 2), "shards_encoded": engine.shards, "manifest": asdict(manifest)}
            )
        else:
            click.echo(f"{manifest.counts['articles']:,} articles indexed in {seconds:.1f} s: {out}")
            click.echo(
                f"read {collected.read:,} · refused {len(collected.refused):,} · "
                f"duplicates {collected.duplicates:,} · deleted {collected.deleted:,} · {size(manifest.size)}"
            )


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("--source", type=click.Choice([*SOURCES, "eutils"]), help="What INPUT is; see `index build`.")
@click.option("--remove", multiple=True, metavar="PMID", help="An article to remove; may be repeated.")
@click.option("--encoder", metavar="NAME", help="The index's encoder, if its folder has moved.")
@click.option("--compact", is_flag=True, help="Merge the vectors into one shard without deleted ones.")
@shared_options
def update(
    folder: Path,
    inputs: tuple[str, ...],
    source: str | None,
    remove: tuple[str, ...],
    encoder: str | None,
    compact: bool,
    shared: SharedOptions,
) -> None:
    """Add, replace and remove articles without encoding the others again.

    \b
    riskcards index update pubmed --source pubmed-xml updatefiles/pubmed26n1335.xml.gz
    riskcards index update pubmed --remove 12345678
    riskcards index update pubmed --compact

    New versions replace old ones, DeleteCitation and --remove delete articles, and a retraction notice marks the
    article it names. The update is atomic: searches use the old state until the end. `riskcards index info DIR` shows
    shards and deleted rows; use --compact if there are many.
    """
    if bool(inputs) != bool(source):
        raise click.UsageError("INPUT needs --source" if inputs else "--source needs INPUT")
    if not (inputs or remove or compact):
        raise click.UsageError("nothing to do: give INPUT, --remove or --compact")
    manifest = read_manifest(folder)
    chosen = ArticleSource(source or "none", inputs, shared)
    read = reading(shared.triples, chosen.kind, map(Path, inputs), shared.annotations, folder)
    with _collected(chosen, _beside(folder, ".eutils")) as collected:
        report_records(collected)
        made_by = shared.encoder(encoder or manifest.encoder)
        with bar("encoding", len(collected.articles)) as progress:
            manifest, changed = update_index(
                folder,
                collected.articles,
                collected.deletions | set(remove),
                made_by,
                retracted=collected.retracted,
                progress=progress,
                engine=shared.counted_engine(made_by),
                statements=read.statements,
                versions=collected.deleted_versions,
            )
        manifest = compact_index(folder) if compact else manifest
        write_vectors_to(shared.store, folder, manifest)
        report_triples(read)
        if shared.as_json:
            print_json(records_json(collected) | {"changed": asdict(changed), "manifest": asdict(manifest)})
            return
        click.echo(
            f"added {changed.added:,} · replaced {changed.replaced:,} · unchanged {changed.unchanged:,} · "
            f"removed {changed.removed:,}\n{manifest.counts['articles']:,} articles in {folder}"
        )


@contextmanager
def _collected(source: ArticleSource, cache: Path) -> Iterator[CollectedArticles]:
    """Yields the articles of a source from a temporary file."""
    if source.kind == "starter":
        yield starter_articles()
        return
    if source.kind == "none":
        yield CollectedArticles()
        return
    files = source.files(cache)
    annotations = read_annotations(source.options.annotations)
    reader = "pubmed-xml" if source.kind == "eutils" else source.kind
    shown = sys.stderr.isatty()
    with tempfile.TemporaryFile() as stream:
        articles: MutableMapping[str, Article] = SpooledArticles(stream)
        collected = collect_articles(
            reader, files, count_records if shown else None, articles=articles, annotations=annotations
        )
        if shown:
            click.echo(f"\rreading   {collected.read:,} records", err=True)
        yield collected


class _CountedEngine:
    """An engine that counts the shards it encodes, without those of an earlier build."""

    def __init__(self, engine: Engine) -> None:
        self.shards = 0
        self._engine = engine

    def __call__(self, shards: Iterable[tuple[Path, list[str]]]) -> Iterator[tuple[Path, NDArray[np.float32]]]:
        for encoded in self._engine(shards):
            self.shards += 1
            yield encoded


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(folder.name + ending)
