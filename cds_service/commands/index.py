"""`riskcards index`: build, search, evaluate, describe and verify a PubMed index."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from knowledge_index import Evidence, KnowledgeIndex, Query, build_index
from knowledge_index.articles import Collected, collect
from knowledge_index.encoder import ENCODERS, MiniLMEncoder, available_threads, encoder_named
from knowledge_index.evaluation import Scores, Unmatched, read_qrels, read_queries, unmatched
from knowledge_index.evaluation import evaluate as evaluate_index
from knowledge_index.ranking import RETRIEVERS
from knowledge_index.starter.__main__ import starter_articles
from knowledge_index.storage import Manifest, read_manifest, verify

_REFUSED_SHOWN = 10
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_STARTER_FOLDER = "starter"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Build, search, check and evaluate a PubMed index.

    \b
    Ask the shipped evidence:   riskcards index search starter "heart failure readmission"
    Index your own literature:  riskcards index build --source pubmed-xml pubmed25n0001.xml.gz --out my-index
    Compare the retrievers:     riskcards index evaluate my-index --queries q.jsonl --qrels qrels.tsv
    Before you deploy it:       riskcards index verify my-index

    DIR is an index folder, or the word `starter` for the evidence base that comes with riskcards.
    """


@command.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--source",
    required=True,
    type=click.Choice(["pubmed-xml", "jsonl", "starter"]),
    help="What INPUT is: PubMed baseline or update files, JSON lines, or (without INPUT) the starter articles.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The index folder.")
@click.option("--encoder", default=MiniLMEncoder.name, show_default=True, type=click.Choice(sorted(ENCODERS)))
@click.option("--workers", type=click.IntRange(1, 256), help="Batches encoded side by side.  [default: all processors]")
@click.option("--engine", default="local", show_default=True, type=click.Choice(["local"]), help="Where work runs.")
@click.option("--resume", is_flag=True, help="Go on after a build that was stopped: only missing shards are encoded.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest and the counts as JSON.")
def build(
    inputs: tuple[Path, ...],
    source: str,
    out: Path,
    encoder: str,
    workers: int | None,
    engine: str,  # noqa: ARG001 - one choice so far; the option is part of the command's contract
    resume: bool,
    as_json: bool,
) -> None:
    """Build an index from articles.

    INPUT is files or folders, plain or .gz. A JSON line is
    {"pmid", "title", "abstract", "mesh": [{"ui"?, "name", "major"}], "year"?, "references": [pmid]}.
    A record that cannot be read is reported with its file and place and left out; of two records with one PMID the
    last wins. The folder appears whole at the end; a folder that holds anything but an index is not touched.
    """
    if (source == "starter") == bool(inputs):
        raise click.UsageError("--source starter takes no INPUT" if inputs else f"--source {source} needs INPUT")
    started = time.perf_counter()
    collected = _collect(source, inputs)
    _report_refused(collected)
    with _bar("encoding", len(collected.articles)) as progress:
        manifest = build_index(
            collected.articles.values(),
            out,
            encoder_named(encoder, workers or available_threads()),
            progress=progress,
            source=source,
            resume=resume,
        )
    seconds = time.perf_counter() - started
    if as_json:
        counts = {"read": collected.read, "refused": len(collected.refused), "duplicates": collected.duplicates}
        refused = [{"file": error.file, "record": error.record, "error": str(error)} for error in collected.refused]
        _print_json(
            counts
            | {"deleted": collected.deleted, "refused_records": refused, "seconds": round(seconds, 2)}
            | {"manifest": asdict(manifest)}
        )
        return
    click.echo(
        f"{manifest.counts['articles']:,} articles indexed in {seconds:.1f} s: {out}\n"
        f"read {collected.read:,} · refused {len(collected.refused):,} · "
        f"duplicates {collected.duplicates:,} · deleted {collected.deleted:,} · {_size(manifest.size)}"
    )


def _collect(source: str, inputs: tuple[Path, ...]) -> Collected:
    if source == "starter":
        return starter_articles()
    collected = collect(source, inputs, _count_records if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        click.echo(f"\rreading   {collected.read:,} records", err=True)
    return collected


def _count_records(read: int) -> None:
    """A running count: how many records the files hold is known only at their end."""
    if read % 500 == 0:
        click.echo(f"\rreading   {read:,} records", nl=False, err=True)


def _report_refused(collected: Collected) -> None:
    for error in collected.refused[:_REFUSED_SHOWN]:
        click.echo(f"left out: {error}", err=True)
    more = len(collected.refused) - _REFUSED_SHOWN
    if more > 0:
        click.echo(f"left out: {more:,} more; --json lists them all", err=True)


@command.command()
@click.argument("folder", metavar="DIR")
@click.argument("text")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="At most this many.")
@click.option("--retriever", default="graph", show_default=True, type=click.Choice(RETRIEVERS))
@click.option(
    "--concept", "concepts", multiple=True, metavar="UI", help="A MeSH descriptor id to start from (D006333)."
)
@click.option("--json", "as_json", is_flag=True, help="Print results, linked concepts and paths as JSON.")
def search(folder: str, text: str, k: int, retriever: str, concepts: tuple[str, ...], as_json: bool) -> None:
    """Ask an index a short question in clinical words.

    Weak matches are withheld, so there may be fewer than k answers, or none. With the graph each answer tells the way
    from the patient's concept to the article.

    \b
    riskcards index search starter "CHF readmission"
    riskcards index search my-index "hyponatremia mortality" -k 5 --retriever hybrid --json
    """
    index = _open(folder)
    found = index.retrieve(Query(text, concepts), k, retriever)
    linked = index.link_text(text)
    if as_json:
        _print_json(
            {
                "query": text,
                "retriever": retriever,
                "concepts": [
                    {"ui": item.concept.ui, "name": item.concept.name, "mention": item.mention, "negated": item.negated}
                    for item in linked
                ],
                "results": [_as_json(rank, item) for rank, item in enumerate(found.evidence, 1)],
                "withheld": found.withheld,
            }
        )
        return
    if linked:
        names = dict.fromkeys(("not " if item.negated else "") + item.concept.name for item in linked)
        click.secho("Understood: " + " · ".join(names), dim=True)
    for rank, item in enumerate(found.evidence, 1):
        _print_evidence(rank, item)
    click.secho(_withheld(len(found.evidence), found.withheld), dim=True)


def _as_json(rank: int, item: Evidence) -> dict[str, Any]:
    return {"rank": rank, **asdict(item), "url": item.url, "path_in_words": item.path_in_words()}


def _print_evidence(rank: int, item: Evidence) -> None:
    about = " · ".join(str(part) for part in (item.year, item.study_type) if part)
    click.secho(f"\n{rank:>3}. {item.title}", bold=True)
    click.echo(click.wrap_text(item.passage, 100, "     ", "     "))
    click.secho(f"     {item.url}{'  ' + about if about else ''}  score {item.score:.4f}", dim=True)
    if item.path:
        click.secho(f"     {item.path_in_words()}", fg="cyan")


def _withheld(shown: int, withheld: int) -> str:
    if not shown and not withheld:
        return "\nNothing in this index matches."
    if not shown:
        return f"\nNothing strong enough to show; {withheld} weak matches withheld."
    return f"\n{withheld} weak matches withheld." if withheld else ""


@command.command()
@click.argument("folder", metavar="DIR")
@click.option("--queries", required=True, type=_FILE, help='JSON lines {"id", "text"}.')
@click.option("--qrels", required=True, type=_FILE, help="TREC's four columns: query, 0, PMID, grade.")
@click.option("--json", "as_json", is_flag=True, help="Print the measures as JSON.")
def evaluate(folder: str, queries: Path, qrels: Path, as_json: bool) -> None:
    """Measure every retriever on judged queries, side by side.

    nDCG@10 with linear gains, precision at 10, recall at 100; means over the queries that have a relevant article,
    with 95 % bootstrap intervals, and each retriever against the flat hybrid by a paired randomisation test. Nothing
    is withheld here.
    """
    index = _open(folder)
    asked, judged = read_queries(queries), read_qrels(qrels)
    left_out = unmatched(index, asked, judged)
    _report_unmatched(left_out)
    with _bar("asking", len(asked) * len(RETRIEVERS)) as progress:
        scores = evaluate_index(index, asked, judged, progress=progress)
    if as_json:
        _print_json(_measured_json(scores, left_out))
        return
    measured = len(next(iter(scores.values())).by_query)
    click.echo(f"{'':10}{'nDCG@10':>10}{'(95 %)':>16}{'P@10':>8}{'recall@100':>12}   {measured} queries")
    for name, item in scores.items():
        low, high = item.intervals()["ndcg@10"]
        click.echo(
            f"{name:10}{item.ndcg_at_10:>10.3f}{f'{low:.3f}-{high:.3f}':>16}"
            f"{item.precision_at_10:>8.3f}{item.recall_at_100:>12.3f}"
        )
    against = scores["graph"].versus(scores["hybrid"])["ndcg@10"]
    click.echo(
        f"graph against hybrid: nDCG@10 {against.difference:+.3f} "
        f"({against.interval[0]:+.3f} to {against.interval[1]:+.3f}), p {against.p:.4f}"
    )


def _report_unmatched(left_out: Unmatched) -> None:
    told = (
        (left_out.queries_without_judgements, "queries have no relevant article in the qrels and are left out"),
        (left_out.judged_but_not_asked, "queries of the qrels are not among the queries"),
        (left_out.articles_not_indexed, "relevant articles are not in this index and count as not found"),
    )
    for ids, words in told:
        if ids:
            more = ", ..." if len(ids) > _REFUSED_SHOWN else ""
            click.echo(f"{len(ids):,} {words}: {', '.join(ids[:_REFUSED_SHOWN])}{more}", err=True)


def _measured_json(scores: dict[str, Scores], left_out: Unmatched) -> dict[str, Any]:
    return {
        "retrievers": {name: item.to_json() for name, item in scores.items()},
        "intervals": {name: item.intervals() for name, item in scores.items()},
        "versus_hybrid": {
            name: {measure: pair.to_json() for measure, pair in item.versus(scores["hybrid"]).items()}
            for name, item in scores.items()
            if name != "hybrid"
        },
        "queries": len(next(iter(scores.values())).by_query),
        "queries_without_relevant": len(left_out.queries_without_judgements),
        "unmatched": asdict(left_out),
    }


@command.command()
@click.argument("folder", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def info(folder: str, as_json: bool) -> None:
    """What an index holds, and what made it."""
    manifest = read_manifest(_path(folder))
    if as_json:
        _print_json(asdict(manifest))
        return
    rows = {
        "source": manifest.source,
        **{name: f"{count:,}" for name, count in manifest.counts.items()},
        "encoder": f"{manifest.encoder} ({manifest.dimensions} dimensions, {manifest.encoder_fingerprint})",
        "size": _size(manifest.size),
        "format": str(manifest.format),
        "created by": manifest.created_by,
    }
    for name, value in rows.items():
        click.echo(f"{name:<12}{value}")


@command.command(name="verify")
@click.argument("folder", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def verify_command(folder: str, as_json: bool) -> None:
    """Compare every file with the manifest. Exit 0: unaltered; 3: a file is missing or was altered, and which."""
    manifest: Manifest = verify(_path(folder))
    if as_json:
        _print_json({"ok": True, "files": len(manifest.files), "bytes": manifest.size})
        return
    click.echo(f"ok: {len(manifest.files)} files, {_size(manifest.size)}, as they were built")


def _open(folder: str) -> KnowledgeIndex:
    return KnowledgeIndex.open(_path(folder))


def _path(folder: str) -> Path:
    """The word `starter` is the shipped index, unless a folder of that name holds one."""
    path = Path(folder)
    if folder == _STARTER_FOLDER and not (path / "manifest.json").exists():
        return KnowledgeIndex.starter_folder()
    return path


@contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; `progress(done, total)` moves it to `done`."""
    with click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True) as bar:
        yield lambda done, _: bar.update(done - bar.pos)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
