"""Sources: what is read, what is refused, and that one bad record costs that record only."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest

from knowledge_index import Article, ArticleError, MeshHeading
from knowledge_index.sources.articles import Deletion, article_from_json, collect_articles, read_jsonl
from knowledge_index.sources.pubmed_xml import read_pubmed_xml

PUBMED = Path(__file__).resolve().parents[1] / "data" / "pubmed.xml"

WHOLE = {"pmid": "1", "title": "A title", "abstract": "A finding."}


def test_pubmed_xml_is_read_whole() -> None:
    first, second, third = read_pubmed_xml(PUBMED)
    assert first == Article(
        pmid="90000001",
        title="Early visits after heart failure discharge & readmission.",
        abstract="AIM: We asked whether a visit within seven days helps. "
        "RESULTS: Readmission fell from 24% to 18% (H2O balance unchanged).",
        mesh=(
            MeshHeading("Heart Failure", "D006333", True, ("*therapy",)),
            MeshHeading("Humans", "D006801", False),
            MeshHeading("Patient Readmission", "D010359", True),
        ),
        year=2014,
        references=("90000002",),
        study_type="randomized controlled trial",
        first_author="Doe",
        journal="Imag J",
    )
    assert isinstance(second, Article)
    assert (second.first_author, second.journal) == ("Imaginary Study Group", None)
    assert (second.title, second.abstract, second.year) == ("Hyponaträmie bei Aufnahme", "", 2009)
    assert isinstance(third, Article)
    assert third.retracted


def test_gzipped_xml_gives_the_same(tmp_path: Path) -> None:
    packed = tmp_path / "pubmed25n0001.xml.gz"
    packed.write_bytes(gzip.compress(PUBMED.read_bytes()))
    assert list(read_pubmed_xml(packed)) == list(read_pubmed_xml(PUBMED))


def test_records_are_found_across_the_reader_s_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledge_index.sources.pubmed_xml._CHUNK", 7)
    assert list(read_pubmed_xml(PUBMED)) == list(_with_chunk(1 << 20, monkeypatch))


def _with_chunk(size: int, monkeypatch: pytest.MonkeyPatch) -> list[Article | Deletion]:
    monkeypatch.setattr("knowledge_index.sources.pubmed_xml._CHUNK", size)
    return list(read_pubmed_xml(PUBMED))


def test_a_malformed_record_costs_that_record_only(tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text(PUBMED.read_text("utf-8").replace("<ArticleTitle>[Hypo", "<ArticleTitel>[Hypo"), "utf-8")
    refused: list[ArticleError] = []
    kept = [item.pmid for item in read_pubmed_xml(broken, refused.append)]
    assert kept == ["90000001", "90000003"]
    assert [error.record for error in refused] == ["2 (PMID 90000002)"]
    assert str(broken) in str(refused[0])


def test_a_record_without_end_does_not_swallow_the_next(tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    first, rest = PUBMED.read_text("utf-8").split("</PubmedArticle>", 1)
    broken.write_text(first + rest, "utf-8")
    refused: list[ArticleError] = []
    kept = [item.pmid for item in read_pubmed_xml(broken, refused.append)]
    assert kept == ["90000002", "90000003"]
    assert refused[0].record == "1 (PMID 90000001)"


def test_a_truncated_gz_keeps_what_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledge_index.sources.pubmed_xml._CHUNK", 4096)
    whole = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>{pmid * 7919 % 104729}"
        f"</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        for pmid in range(1, 2001)
    )
    packed = gzip.compress(f"<PubmedArticleSet>{whole}</PubmedArticleSet>".encode())
    cut = tmp_path / "cut.xml.gz"
    cut.write_bytes(packed[: len(packed) // 2])
    refused: list[ArticleError] = []
    kept = [item.pmid for item in read_pubmed_xml(cut, refused.append)]
    assert kept == [str(pmid) for pmid in range(1, len(kept) + 1)]
    assert 200 < len(kept) < 2000
    assert [(error.file, error.record) for error in refused] == [(str(cut), f"after record {len(kept)}")]


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.xml"
    bomb.write_text(
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><PubmedArticleSet>'
        "<PubmedArticle><MedlineCitation><PMID>5</PMID><Article><ArticleTitle>&b;</ArticleTitle></Article>"
        "</MedlineCitation></PubmedArticle></PubmedArticleSet>",
        "utf-8",
    )
    with pytest.raises(ArticleError, match="undefined entity"):
        list(read_pubmed_xml(bomb))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.4 nothing of PubMed", "not a PubMed file"),
        (b'<?xml version="1.0" encoding="utf-16"?><PubmedArticleSet/>', "UTF-8"),
        (b"<PubmedArticleSet><PubmedArticle><MedlineCitation>", "ends inside"),
        (b"<PubmedArticleSet><PubmedArticle></PubmedArticle></PubmedArticleSet>", "MedlineCitation"),
        (
            b"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>x</PMID><Article><ArticleTitle>t</ArticleTitle>"
            b"</Article></MedlineCitation></PubmedArticle></PubmedArticleSet>",
            "not a PubMed id",
        ),
    ],
)
def test_files_that_are_not_pubmed_say_so(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "odd.xml"
    path.write_bytes(content)
    with pytest.raises(ArticleError, match=message):
        list(read_pubmed_xml(path))


def test_an_empty_set_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.xml"
    path.write_bytes(b"<PubmedArticleSet></PubmedArticleSet>")
    assert list(read_pubmed_xml(path)) == []


def test_deletions_and_duplicates_are_counted(tmp_path: Path) -> None:
    update = tmp_path / "update.xml"
    update.write_bytes(
        PUBMED.read_bytes().replace(
            b"</PubmedArticleSet>",
            b'<DeleteCitation><PMID Version="1">90000002</PMID><PMID>77</PMID></DeleteCitation></PubmedArticleSet>',
        )
    )
    collected = collect_articles("pubmed-xml", [PUBMED, update])
    assert list(collected.articles) == ["90000001", "90000003"]
    assert (collected.duplicates, collected.deleted, collected.refused) == (3, 1, [])


def test_of_two_records_with_one_pmid_the_last_wins(tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_bytes(orjson.dumps(WHOLE) + b"\n\n" + orjson.dumps(WHOLE | {"title": "Corrected"}))
    collected = collect_articles("jsonl", [path])
    assert [item.title for item in collected.articles.values()] == ["Corrected"]
    assert (collected.read, collected.duplicates) == (2, 1)


def test_a_folder_is_read_in_name_order(tmp_path: Path) -> None:
    for name, title in (("b.jsonl", "later"), ("a.jsonl", "earlier")):
        (tmp_path / name).write_bytes(orjson.dumps(WHOLE | {"title": title}))
    assert collect_articles("jsonl", [tmp_path]).articles["1"].title == "later"
    with pytest.raises(ArticleError, match=r"no \.xml or \.xml\.gz"):
        collect_articles("pubmed-xml", [tmp_path])


MALFORMED = [
    (b"{", "not JSON"),
    (b"[]", "a record is a JSON object"),
    (b'{"title": "t"}', "pmid"),
    (b'{"pmid": true, "title": "t"}', "pmid"),
    (b'{"pmid": "1.5", "title": "t"}', "pmid"),
    (b'{"pmid": "12345678901", "title": "t"}', "pmid"),
    ('{"pmid": "\u0661", "title": "t"}'.encode(), "pmid"),
    (b'{"pmid": "1", "title": "", "abstract": ""}', "neither title nor abstract"),
    (b'{"pmid": "1", "title": 7}', "title"),
    (b'{"pmid": "1", "title": "t", "year": "soon"}', "year"),
    (b'{"pmid": "1", "title": "t", "year": true}', "year"),
    (b'{"pmid": "1", "title": "t", "mesh": {}}', "mesh"),
    (b'{"pmid": "1", "title": "t", "mesh": [3]}', "mesh"),
    (b'{"pmid": "1", "title": "t", "mesh": [{"ui": "D1"}]}', "mesh"),
    (b'{"pmid": "1", "title": "t", "mesh": [{"name": "x", "major": "Y"}]}', "major"),
    (b'{"pmid": "1", "title": "t", "references": ["PMC5"]}', "references"),
    (b'{"pmid": "1", "title": "t", "retracted": "no"}', "retracted"),
    (b'{"pmid": "1", "title": NaN}', "not JSON"),
    (b'{"pmid": "1", "title": "\xff"}', "not JSON"),
]


@pytest.mark.parametrize(("line", "message"), MALFORMED)
def test_malformed_lines_are_named_and_the_rest_is_kept(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "articles.jsonl"
    path.write_bytes(orjson.dumps(WHOLE) + b"\n" + line + b"\n" + orjson.dumps(WHOLE | {"pmid": 2}) + b"\n")
    refused: list[ArticleError] = []
    assert [item.pmid for item in read_jsonl(path, refused.append)] == ["1", "2"]
    assert [error.record for error in refused] == ["line 2"]
    assert message in str(refused[0])
    with pytest.raises(ArticleError):
        list(read_jsonl(path))


def test_an_abstract_of_ten_megabytes_is_refused_by_size() -> None:
    with pytest.raises(ValueError, match="10000000 characters"):
        article_from_json(WHOLE | {"abstract": "x" * 10_000_000})


def test_a_missing_file_is_an_article_error(tmp_path: Path) -> None:
    with pytest.raises(ArticleError, match="No such file"):
        list(read_jsonl(tmp_path / "absent.jsonl"))
