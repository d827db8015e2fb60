"""`riskcards index` as a user runs it: exit codes, JSON shapes, and what is said about bad records."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from cds_service.cli import main
from tests.cds_service.model_server import model_server
from tests.knowledge_index.conftest import postgres

__all__ = ["postgres"]

PUBMED = Path(__file__).resolve().parents[2] / "knowledge_index" / "data" / "pubmed.xml"

ARTICLES = [
    {
        "pmid": "1",
        "title": "Early visits in heart failure",
        "abstract": "A visit within a week of discharge lowered readmission in heart failure.",
        "mesh": [{"name": "Heart Failure", "ui": "D006333", "major": True}],
        "year": 2014,
    },
    {
        "pmid": "2",
        "title": "Low sodium",
        "abstract": "Hyponatremia at admission foretold death in hospital.",
        "mesh": [{"name": "Hyponatremia", "major": True}],
        "references": ["1"],
    },
    {"pmid": "3", "title": "Lactate in sepsis", "abstract": "Falling lactate went with survival."},
]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The console entry point in this process, with its exit code."""

    def riskcards(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["riskcards", "index", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return riskcards


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "articles.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, ARTICLES)))
    return path


@pytest.fixture
def built(run: Run, jsonl: Path, tmp_path: Path) -> Path:
    out = tmp_path / "index"
    assert run("build", "--source", "jsonl", jsonl, "--out", out).code == 0
    return out


def test_build_reports_what_it_kept_and_what_it_left_out(run: Run, jsonl: Path, tmp_path: Path) -> None:
    jsonl.write_bytes(jsonl.read_bytes() + b'\n{"pmid": "x", "title": "t"}\n' + orjson.dumps(ARTICLES[0]))
    answer = run("build", "--source", "jsonl", jsonl, "--out", tmp_path / "index", "--json", "--workers", 2)
    assert answer.code == 0
    result = orjson.loads(answer.out)
    assert (result["read"], result["refused"], result["duplicates"], result["deleted"]) == (4, 1, 1, 0)
    assert result["refused_records"][0]["record"] == "line 4"
    assert result["refused_records"][0]["file"] == str(jsonl)
    assert result["manifest"]["counts"]["articles"] == 3
    assert f"left out: {jsonl}, record line 4: pmid" in answer.err


def test_build_from_pubmed_xml(run: Run, tmp_path: Path) -> None:
    answer = run("build", "--source", "pubmed-xml", PUBMED, "--out", tmp_path / "index")
    assert answer.code == 0
    assert "3 articles indexed" in answer.out
    found = orjson.loads(run("search", tmp_path / "index", "heart failure readmission", "--json").out)
    assert [item["pmid"] for item in found["results"]] == ["90000001"]


def test_search_json(run: Run, built: Path) -> None:
    answer = run("search", built, "CHF readmission, no sepsis", "-k", 2, "--json")
    assert answer.code == 0
    result = orjson.loads(answer.out)
    assert [(item["name"], item["negated"]) for item in result["concepts"]] == [
        ("Heart Failure", False),
        ("Patient Readmission", False),
        ("Sepsis", True),
    ]
    first = result["results"][0]
    assert (first["rank"], first["pmid"], first["retriever"]) == (1, "1", "graph")
    assert first["url"] == "https://pubmed.ncbi.nlm.nih.gov/1/"
    assert first["path_in_words"] == "Heart Failure → main heading of → PMID 1"
    assert first["path"] == [{"source": "Heart Failure", "relation": "main heading of", "target": "PMID 1"}]
    assert len(result["results"]) + result["withheld"] == 2


def test_search_for_people(run: Run, built: Path) -> None:
    answer = run("search", built, "hyponatremia and death", "--retriever", "hybrid")
    assert answer.code == 0
    assert "Concepts: Hyponatremia" in answer.out
    assert "1. Low sodium" in answer.out
    assert "https://pubmed.ncbi.nlm.nih.gov/2/" in answer.out


def test_an_empty_question_is_bad_input(run: Run, built: Path) -> None:
    answer = run("search", built, " ")
    assert (answer.code, answer.out) == (3, "")
    assert "an empty question" in answer.err


def test_search_says_when_everything_was_too_weak(run: Run, built: Path) -> None:
    answer = run("search", built, "varnish of violins")
    assert answer.code == 0
    assert "No strong match; 3 weak matches withheld." in answer.out


def test_search_from_a_concept(run: Run, built: Path) -> None:
    found = orjson.loads(run("search", built, "death in hospital", "--concept", "D007010", "--json").out)
    assert found["results"][0]["path_in_words"] == "Hyponatremia → main heading of → PMID 2"


def test_info_and_verify(run: Run, built: Path) -> None:
    assert orjson.loads(run("info", built, "--json").out)["counts"]["articles"] == 3
    assert "all-MiniLM-L6-v2-int8 (384 dimensions" in run("info", built).out
    assert orjson.loads(run("verify", built, "--json").out)["ok"] is True
    assert "as they were built" in run("verify", built).out


def test_verify_exits_3_on_damage_and_names_the_file(run: Run, built: Path) -> None:
    path = next(built.rglob("vectors.faiss"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for arguments in (("verify", built), ("verify", built, "--json"), ("search", built, "sepsis")):
        answer = run(*arguments)
        assert answer.code == 3
        assert f"{path}: altered" in answer.err
        assert answer.out == ""


def test_evaluate(run: Run, built: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "text": "lactate"}\n{"id": "b", "text": "nobody judged this"}\n')
    (tmp_path / "r.tsv").write_text("a\t0\t3\t2\n")
    options = ("--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.tsv")
    result = orjson.loads(run("evaluate", built, *options, "--json").out)
    assert list(result["retrievers"]) == ["bm25", "dense", "hybrid", "graph"]
    assert result["retrievers"]["graph"] == {"ndcg@10": 1.0, "p@10": 0.1, "recall@100": 1.0}
    assert (result["queries"], result["queries_without_relevant"]) == (1, 1)
    table = run("evaluate", built, *options).out
    assert "nDCG@10" in table
    assert "graph" in table


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("build", "--source", "jsonl", "--out", "x"), 2, "--source jsonl needs INPUT"),
        (("build", "--source", "starter", ".", "--out", "x"), 2, "--source starter takes no INPUT"),
        (("build", "--source", "eutils", "--out", "x"), 2, "--source eutils needs INPUT"),
        (("update", "mine"), 2, "nothing to do"),
        (("update", "mine", "one.jsonl"), 2, "INPUT needs --source"),
        (("update", "mine", "--remove", "1"), 3, "not an index"),
        (("build", "--source", "jsonl", "absent.jsonl", "--out", "x"), 2, "absent.jsonl"),
        (("build", "--source", "jsonl", "empty.jsonl", "--out", "x"), 3, "no article to index"),
        (("build", "--source", "pubmed-xml", "empty.jsonl", "--out", "x"), 3, "not a PubMed file"),
        (("build", "--source", "jsonl", "one.jsonl", "--out", "mine"), 3, "left as it is"),
        (("search", "absent", "sepsis"), 3, "not an index"),
        (("search", "starter", "sepsis", "--retriever", "sparse"), 2, "sparse"),
        (("search", "starter", "sepsis", "-k", "0"), 2, "0"),
        (("info", "mine"), 3, "not an index"),
        (("verify", "mine"), 3, "not an index"),
    ],
)
def test_wrong_use_exits_2_and_bad_input_3(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "one.jsonl").write_bytes(orjson.dumps(ARTICLES[0]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    answer = run(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err


def test_help_is_a_tour(run: Run) -> None:
    text = run("--help").out
    for word in ("build", "search", "evaluate", "info", "verify", "starter"):
        assert word in text


def test_statements_by_rules_and_from_annotators(run: Run, tmp_path: Path) -> None:
    marked = tmp_path / "marked.pubtator"
    marked.write_text("5|t|Drug and salt\n5|a|Furosemide induced hyponatremia.\n5\tCID\tD005665\tD007010\n")
    for how in ("rules", "pubtator"):
        answer = run("build", "--source", "pubtator", marked, "--out", tmp_path / how, "--triples", how, "--json")
        assert orjson.loads(answer.out)["manifest"]["counts"]["statements"] == 1
    update = run("update", tmp_path / "rules", "--remove", "6", "--source", "pubtator", marked, "--triples", "rules")
    assert update.code == 0


def test_statements_by_a_model_server(run: Run, tmp_path: Path) -> None:
    marked = tmp_path / "marked.pubtator"
    marked.write_text("5|t|Drug and salt\n5|a|Furosemide induced hyponatremia.\n")
    said = [{"sentence": 2, "subject": "Furosemide", "relation": "induces", "object": "hyponatremia"}]
    arguments = ("--source", "pubtator", marked, "--out", tmp_path / "index", "--json")
    with model_server(orjson.dumps({"statements": [*said, {**said[0], "object": "sepsis"}]}).decode()) as server:
        answer = run("build", *arguments, "--triples", f"llm:{server.url}#small")
    assert orjson.loads(answer.out)["manifest"]["counts"]["statements"] == 1
    assert "dropped: not the sentence's own words 1" in answer.err
    schema = server.asked[0]["response_format"]["json_schema"]["schema"]
    assert {"Furosemide", "hyponatremia"} <= set(
        schema["properties"]["statements"]["items"]["properties"]["object"]["enum"]
    )


@pytest.mark.parametrize(
    ("how", "code"), [("magic", 2), ("llm:", 2), ("llm:rules", 2), ("llm:http://h/v1#m", 2), ("pubtator", 2)]
)
def test_statements_that_cannot_be_read_are_wrong_use(
    run: Run, jsonl: Path, tmp_path: Path, how: str, code: int
) -> None:
    answer = run("build", "--source", "jsonl", jsonl, "--out", tmp_path / "index", "--triples", how)
    assert (answer.code, "--triples" in answer.err) == (code, True)
    assert not (tmp_path / "index").exists()


def test_annotations_without_a_relation_are_bad_input(run: Run, jsonl: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.pubtator"
    marked.write_text("5|t|Drug and salt\n5|a|Nothing is said.\n")
    arguments = ("--annotations", marked, "--triples", "pubtator")
    answer = run("build", "--source", "jsonl", jsonl, "--out", tmp_path / "index", *arguments)
    assert (answer.code, "no relation of two concepts" in answer.err) == (3, True)


def test_a_reranker_must_be_a_folder(run: Run, built: Path, tmp_path: Path) -> None:
    answer = run("search", built, "sepsis", "--reranker", tmp_path / "nothing")
    assert answer.code in (1, 2, 3)
    assert "holds no model" in answer.err


def test_a_vocabulary_s_names_are_linked_in_the_index(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ARTICLES)))
    mesh = PUBMED.with_name("descriptors.xml")
    arguments = ("build", "--source", "jsonl", tmp_path / "a.jsonl", "--out", tmp_path / "index", "--vocabulary")
    assert run(*arguments, tmp_path / "none").code == 3
    assert run(*arguments, mesh).code == 0
    answer = run("search", tmp_path / "index", "lantern fever", "--json")
    assert [item["ui"] for item in orjson.loads(answer.out)["concepts"]] == ["D900001"]


def test_evaluate_reports_significance_intervals_and_unmatched_ids(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ARTICLES)))
    assert run("build", "--source", "jsonl", tmp_path / "a.jsonl", "--out", tmp_path / "index").code == 0
    (tmp_path / "q.jsonl").write_text('{"id": "1", "text": "sepsis"}\n{"id": "2", "text": "nothing judged"}\n')
    (tmp_path / "r.tsv").write_text("1 0 3 2\n1 0 777 1\n9 0 1 1\n")
    arguments = ("evaluate", tmp_path / "index", "--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.tsv")
    answer = run(*arguments, "--json")
    result = orjson.loads(answer.out)
    assert set(result["retrievers"]) == set(result["intervals"]) == {"bm25", "dense", "hybrid", "graph"}
    assert set(result["versus_hybrid"]) == {"bm25", "dense", "graph"}
    assert set(result["versus_hybrid"]["graph"]["ndcg@10"]) == {"difference", "interval", "p"}
    assert result["unmatched"] == {
        "queries_without_judgements": ["2"],
        "judged_but_not_asked": ["9"],
        "articles_not_indexed": ["777"],
    }
    assert "777" in answer.err
    assert "graph against hybrid" in run(*arguments).out
    (tmp_path / "r.tsv").write_text("x 0 3 2\n")
    wrong = run(*arguments)
    assert wrong.code == 3
    assert "ids agree" in wrong.err


def test_vectors_are_written_to_postgresql_and_asked_there(tmp_path: Path, run: Run, postgres: str) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_bytes(b"\n".join(map(orjson.dumps, ARTICLES)))
    out = tmp_path / "in-postgres"
    assert run("build", "--source", "jsonl", lines, "--out", out, "--store", postgres).code == 0
    here, there = (run("search", out, "sodium", "--json", *more) for more in ((), ("--store", postgres)))
    assert [item["pmid"] for item in orjson.loads(there.out)["results"]] == ["2"]
    assert [item["pmid"] for item in orjson.loads(here.out)["results"]] == ["2"]
    # The folder moves on, the table does not: that is told, and the old vectors are not taken for the new.
    assert run("update", out, "--remove", "3").code == 0
    late = run("search", out, "sodium", "--store", postgres)
    assert late.code == 3
    assert "another generation" in late.err or "vectors of" in late.err
    assert run("update", out, "--remove", "1", "--store", postgres).code == 0
    assert run("search", out, "sodium", "--store", postgres).code == 0


def test_a_store_that_is_no_postgresql_is_wrong_use(run: Run) -> None:
    answer = run("search", "starter", "sodium", "--store", "mysql://x")
    assert answer.code == 2
    assert "postgresql://" in answer.err


def test_an_encoder_is_named_for_the_build_and_another_one_is_refused_by_a_search(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "articles.jsonl"
    source.write_bytes(b"\n".join(orjson.dumps(article) for article in ARTICLES))
    index = tmp_path / "static"
    assert run("build", "--source", "jsonl", source, "--out", index, "--encoder", "static").code == 0
    found = run("search", index, "low sodium", "--json")
    assert orjson.loads(found.out)["results"][0]["pmid"] == "2"
    moved = run("update", index, "--remove", "3", "--encoder", "minilm")
    assert (moved.code, "not with all-MiniLM-L6-v2-int8" in moved.err) == (3, True)
    assert run("update", index, "--remove", "3", "--encoder", "static").code == 0
    refused = run("search", index, "low sodium", "--encoder", "minilm")
    assert refused.code == 3
    assert "their vectors do not mix" in refused.err
    unknown = run("build", "--source", "jsonl", source, "--out", tmp_path / "none", "--encoder", "word2vec")
    assert unknown.code == 3
    assert "hf:FOLDER" in unknown.err
