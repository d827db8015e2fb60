"""`riskcards index`: build, search, evaluate, describe and verify a PubMed index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cds_service.commands.literature.index_build import build, update
from cds_service.commands.literature.index_report import REFUSED_SHOWN, bar, path_of, print_json, size
from cds_service.commands.literature.index_store import opened_with, store_option
from knowledge_index import Evidence, KnowledgeIndex, LinkedConcept, Query, Retrieval
from knowledge_index.core import damaged_files, read_manifest
from knowledge_index.graph import largest_communities
from knowledge_index.retrieval import (
    RETRIEVERS,
    CrossEncoder,
    RetrievalScores,
    UnmatchedQueries,
    read_qrels,
    read_queries,
    unmatched_queries,
)
from knowledge_index.retrieval import evaluate_retrieval as evaluate_index

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Build, search, verify and evaluate a PubMed index.

    \b
    Search shipped articles:    riskcards index search starter "heart failure readmission"
    Index your own literature:  riskcards index build --source pubmed-xml pubmed25n0001.xml.gz --out my-index
    Index a PubMed query:       riskcards index build --source eutils "sepsis[majr] AND mortality[mh]" --out sepsis
    Keep it up to date:         riskcards index update my-index --source pubmed-xml pubmed25n1300.xml.gz
    Compare the retrievers:     riskcards index evaluate my-index --queries q.jsonl --qrels qrels.tsv
    Verify before deployment:   riskcards index verify my-index

    DIR is an index folder, or `starter` for the evidence base shipped with riskcards.
    """


command.add_command(build)
command.add_command(update)


@command.command()
@click.argument("folder", metavar="DIR")
@click.argument("text")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Most results.")
@click.option("--retriever", default="graph", show_default=True, type=click.Choice(RETRIEVERS))
@click.option(
    "--concept", "concepts", multiple=True, metavar="UI", help="A MeSH descriptor id to start from (D006333)."
)
@click.option("--reranker", metavar="PATH", help="A cross-encoder folder, to rerank the first 50 results.")
@store_option("Use the vectors in this PostgreSQL instead of the folder's; written by `index build --store`.")
@click.option("--encoder", metavar="NAME", help="The index's encoder, if its folder has moved.")
@click.option("--json", "as_json", is_flag=True, help="Print results, linked concepts and paths as JSON.")
def search(
    folder: str,
    text: str,
    k: int,
    retriever: str,
    concepts: tuple[str, ...],
    reranker: str | None,
    store: str | None,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Search an index with a short clinical question.

    Weak matches are withheld, so there may be fewer than k results, or none. The graph retriever shows the path from
    the query's concept to each article.

    \b
    riskcards index search starter "CHF readmission"
    riskcards index search my-index "hyponatremia mortality" -k 5 --retriever hybrid --json
    riskcards index search my-index "sepsis mortality" --reranker models/medcpt-cross-encoder
    """
    rescorer = CrossEncoder(reranker) if reranker else None
    with opened_with(store, path_of(folder), encoder) as index:
        found = index.retrieve(Query(text, concepts), k, retriever, rescorer)
        linked = index.link_text(text)
    if as_json:
        print_json(_found_json(text, retriever, linked, found))
        return
    if linked:
        names = dict.fromkeys(("not " if item.negated else "") + item.concept.name for item in linked)
        click.secho("Concepts: " + " · ".join(names), dim=True)
    for rank, item in enumerate(found.evidence, 1):
        _print_evidence(rank, item)
    click.secho(_withheld(len(found.evidence), found.withheld), dim=True)


def _found_json(text: str, retriever: str, linked: Sequence[LinkedConcept], found: Retrieval) -> dict[str, Any]:
    return {
        "query": text,
        "retriever": retriever,
        "concepts": [
            {"ui": item.concept.ui, "name": item.concept.name, "mention": item.mention, "negated": item.negated}
            for item in linked
        ],
        "results": [_as_json(rank, item) for rank, item in enumerate(found.evidence, 1)],
        "withheld": found.withheld,
    }


def _as_json(rank: int, item: Evidence) -> dict[str, Any]:
    return {"rank": rank, **asdict(item), "url": item.url, "path_in_words": item.path_in_words()}


def _print_evidence(rank: int, item: Evidence) -> None:
    about = " · ".join(str(part) for part in (item.year, item.study_type) if part)
    click.secho(f"\n{rank:>3}. {item.title}", bold=True)
    click.echo(click.wrap_text(item.passage, 100, "     ", "     "))
    click.secho(f"     {item.url}{'  ' + about if about else ''}  score {item.score:.4f}", dim=True)
    if item.path:
        click.secho(f"     {item.path_in_words()}", fg="cyan")
    if item.community:
        click.secho(f"     among {item.community.in_words()}", dim=True)


def _withheld(shown: int, withheld: int) -> str:
    if not shown and not withheld:
        return "\nNo match in this index."
    if not shown:
        return f"\nNo strong match; {withheld} weak matches withheld."
    return f"\n{withheld} weak matches withheld." if withheld else ""


@command.command()
@click.argument("folder", metavar="DIR")
@click.option("--queries", required=True, type=_FILE, help='JSON lines {"id", "text"}.')
@click.option("--qrels", required=True, type=_FILE, help="TREC qrels with four columns: query, 0, PMID, grade.")
@click.option("--json", "as_json", is_flag=True, help="Print the measures as JSON.")
def evaluate(folder: str, queries: Path, qrels: Path, as_json: bool) -> None:
    """Compare the retrievers on queries with relevance judgements.

    nDCG@10 with linear gains, precision at 10, recall at 100; means over the queries that have a relevant article,
    with 95 % bootstrap intervals, and each retriever against the flat hybrid by a paired randomisation test. Weak
    matches are not withheld here.
    """
    index = _open(folder)
    questions, relevance = read_queries(queries), read_qrels(qrels)
    left_out = unmatched_queries(index, questions, relevance)
    _report_unmatched(left_out)
    with bar("searching", len(questions) * len(RETRIEVERS)) as progress:
        scores = evaluate_index(index, questions, relevance, progress=progress)
    if as_json:
        print_json(_measured_json(scores, left_out))
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


def _report_unmatched(left_out: UnmatchedQueries) -> None:
    counts = (
        (left_out.queries_without_judgements, "queries have no relevant article in the qrels and are left out"),
        (left_out.judgements_without_query, "queries of the qrels are not among the queries"),
        (left_out.articles_not_indexed, "relevant articles are not in this index and count as not found"),
    )
    for ids, words in counts:
        if ids:
            more = ", ..." if len(ids) > REFUSED_SHOWN else ""
            click.echo(f"{len(ids):,} {words}: {', '.join(ids[:REFUSED_SHOWN])}{more}", err=True)


def _measured_json(scores: dict[str, RetrievalScores], left_out: UnmatchedQueries) -> dict[str, Any]:
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
        "unmatched": left_out.to_json(),
    }


@command.command()
@click.argument("folder", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def info(folder: str, as_json: bool) -> None:
    """Show the content, encoder and size of an index. Files are not checked; use `verify`.

    \b
    riskcards index info starter
    riskcards index info my-index --json
    """
    manifest = read_manifest(path_of(folder))
    if as_json:
        print_json(asdict(manifest))
        return
    rows = {
        "source": manifest.source,
        **{name: f"{count:,}" for name, count in manifest.counts.items()},
        "encoder": f"{manifest.encoder} ({manifest.dimensions} dimensions, {manifest.encoder_fingerprint})",
        "size": size(manifest.size),
        "format": str(manifest.format),
        "created by": manifest.created_by,
        "generation": manifest.generation or "beside the manifest (first version)",
    }
    for name, value in rows.items():
        click.echo(f"{name.replace('_', ' '):<18}{value}")
    for item in largest_communities(path_of(folder), manifest):
        click.echo(f"{'':18}{item.in_words()}")
    gone = manifest.counts.get("vector_rows_gone", 0)
    if 5 * gone > manifest.counts["articles"]:
        click.echo(f"{gone:,} deleted vectors still take search time; run: riskcards index update {folder} --compact")


@command.command(name="verify")
@click.argument("folder", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def verify_command(folder: str, as_json: bool) -> None:
    """Verify size and sha256 of every file against the manifest.

    Exit code 0: unchanged. Exit code 3: no index, or files missing or changed; each is named. A changed index cannot be
    opened: build it again or restore a backup.
    """
    path = path_of(folder)
    manifest = read_manifest(path)
    found = damaged_files(path, manifest)
    for problem in found[:-1]:
        click.echo(f"riskcards: {problem}", err=True)
    if found:
        raise found[-1]
    if as_json:
        print_json({"ok": True, "files": len(manifest.files), "bytes": manifest.size})
        return
    click.echo(f"ok: {len(manifest.files)} files, {size(manifest.size)}, as they were built")


def _open(folder: str) -> KnowledgeIndex:
    return KnowledgeIndex.open(path_of(folder))
