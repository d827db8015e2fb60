"""Updates, retractions, annotations, and bad input of every kind: the bad record is named, everything else is kept."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from knowledge_index import Article, ArticleError, KnowledgeIndex, MeshHeading, MiniLMEncoder, Notice, update_index
from knowledge_index.core.values import Triple
from knowledge_index.indexing.build import build_index
from knowledge_index.sources.annotations import annotated_triples, bioc_articles, pubtator_articles, read_annotations
from knowledge_index.sources.articles import CollectedArticles, SpooledArticles, collect_articles
from knowledge_index.sources.bioc_json import Cutter
from knowledge_index.sources.pubmed_xml import read_pubmed_xml
from tests.knowledge_index.conftest import LITERATURE

DATA = Path(__file__).resolve().parents[1] / "data"
BASELINE, UPDATE = DATA / "pubmed.xml", DATA / "pubmed-update.xml"


def test_update_files_are_read() -> None:
    corrected, withdrawn, notice, *deletions = read_pubmed_xml(UPDATE)
    assert isinstance(corrected, Article)
    assert (corrected.title, corrected.language) == ("Low sodium at admission, corrected", "ger")
    assert corrected.mesh == (MeshHeading("Hyponatremia", "D007010", True, ("blood", "*mortality")),)
    assert corrected.notices == (Notice("ErratumIn", "90000011"),)
    assert isinstance(withdrawn, Article)
    assert withdrawn.retracted
    assert isinstance(notice, Article)
    assert not notice.retracted
    assert notice.notices[-1] == Notice("RetractionOf", "")
    assert [item.pmid for item in deletions] == ["90000003", "90000077"]


def test_baseline_and_update_together() -> None:
    collected = collect_articles("pubmed-xml", [BASELINE, UPDATE])
    assert sorted(collected.articles) == ["90000001", "90000002", "90000020", "90000021"]
    assert (collected.duplicates, collected.deleted) == (1, 1)
    assert collected.deletions == {"90000003", "90000077"}
    assert collected.articles["90000001"].retracted, "a notice in the update names it"
    places = collected.noticed["not in English"].places
    assert places == [f"{BASELINE}, record 2 (PMID 90000002)", f"{UPDATE}, record 1 (PMID 90000002)"]


def test_an_index_follows_an_update_file(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    build_index(collect_articles("pubmed-xml", [BASELINE]).articles, tmp_path / "index", encoder)
    came = collect_articles("pubmed-xml", [UPDATE])
    manifest, changed = update_index(
        tmp_path / "index", came.articles, came.deletions, encoder, retracted=came.retracted
    )
    assert (changed.added, changed.replaced, changed.removed) == (2, 2, 1)
    assert manifest.counts["retracted"] == 2
    assert KnowledgeIndex.open(tmp_path / "index").pmids == {"90000001", "90000002", "90000020", "90000021"}


def test_a_record_given_again_after_its_deletion_stays() -> None:
    assert "90000003" in collect_articles("pubmed-xml", [UPDATE, BASELINE]).articles
    assert collect_articles("pubmed-xml", [UPDATE, BASELINE]).deletions == {"90000077"}


def test_spooled_articles_round_trip() -> None:
    with tempfile.TemporaryFile() as stream:
        kept = SpooledArticles(stream)
        whole = replace(LITERATURE[0], notices=(Notice("ErratumIn", "5"),), language="fre")
        for item in (*LITERATURE, whole):
            kept[item.pmid] = item
        del kept["104"]
        assert dict(kept) == {item.pmid: item for item in (whole, *LITERATURE[1:]) if item.pmid != "104"}
        assert ("104" in kept, "101" in kept, len(kept)) == (False, True, len(LITERATURE) - 1)


def test_large_files_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.xml.gz"
    text = "Words of an abstract that is repeated to be long. " * 20
    path.write_bytes(gzip.compress(xml(*(f"{text}{n}" for n in range(15_000))), 1))
    tracemalloc.start()
    count = sum(1 for _ in read_pubmed_xml(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 15_000
    assert peak < 6 * 2**20, "the file unpacks to 16 MB"


# Annotations ---------------------------------------------------------------------------------------------------------

PUBTATOR = """\
31|t|Low sodium in heart failure
31|a|Hyponatremia went with death. Low sodium was common.
31\t0\t10\tLow sodium\tDisease\tD007010
31\t14\t27\theart failure\tDisease\tMESH:D006333
31\t28\t40\tHyponatremia\tDisease\tD007010
31\t45\t50\tMYH7\tGene\t4625
31\t60\t65\todd thing\tDisease\tD999999|-1
31\tCID\tD000001\tD007010

32|t|Nothing is marked here
32|a|
"""
BIOC = """<?xml version="1.0"?><!DOCTYPE collection SYSTEM "BioC.dtd"><collection><source>ours</source>
<document><id>31</id>
<passage><infon key="type">title</infon><offset>0</offset><text>Low sodium in heart failure</text>
<annotation id="1"><infon key="identifier">MESH:D007010</infon><text>Low sodium</text></annotation>
<annotation id="2"><infon key="identifier">MESH:D006333</infon><text>heart failure</text></annotation></passage>
<passage><infon key="type">abstract</infon><text>Hyponatremia went with death. Low sodium was common.</text>
<annotation id="3"><infon key="identifier">4625</infon><text>MYH7</text></annotation>
<annotation id="4"><infon key="identifier">MESH:D999999</infon><text>odd thing</text></annotation></passage>
<passage><infon key="type">ref</infon><text>Not ours to index.</text></passage>
</document>
<document><id>32</id><passage><infon key="type">title</infon><text>Nothing is marked here</text></passage></document>
</collection>"""
BIOC_DOCUMENTS: list[dict[str, object]] = [
    {
        "_id": "31|None",
        "id": "31",
        "infons": {},
        "passages": [
            {
                "infons": {"type": "title"},
                "offset": 0,
                "text": "Low sodium in heart failure",
                "annotations": [
                    {"id": "1", "infons": {"identifier": "MESH:D007010", "type": "Disease"}, "text": "Low sodium"},
                    {"id": "2", "infons": {"identifier": "MESH:D006333"}, "text": "heart failure"},
                ],
            },
            {
                "infons": {"type": "abstract"},
                "offset": 28,
                "text": "Hyponatremia went with death. Low sodium was common.",
                "annotations": [
                    {"id": "3", "infons": {"identifier": 4625, "type": "Gene"}, "text": "MYH7"},
                    {"id": "4", "infons": {"identifier": "MESH:D999999"}, "text": "odd thing"},
                ],
            },
            {"infons": {"type": "ref"}, "text": 'Not ours: {"passages": [', "annotations": []},
        ],
        "relations": [],
    },
    {"id": "32", "pmid": 32, "passages": [{"infons": {"type": "title"}, "text": "Nothing is marked here"}]},
]
BIOC_FORMS = {
    "collection": orjson.dumps({"source": "ours", "infons": {}, "documents": BIOC_DOCUMENTS}),
    "indented": orjson.dumps({"source": "ours", "documents": BIOC_DOCUMENTS}, option=orjson.OPT_INDENT_2),
    "PubTator 3": orjson.dumps({"PubTator3": BIOC_DOCUMENTS}),
    "list of collections": orjson.dumps([{"documents": [document]} for document in BIOC_DOCUMENTS]),
    "a document a line": b"\n".join(map(orjson.dumps, BIOC_DOCUMENTS)),
}
MARKED = Article(
    "31",
    "Low sodium in heart failure",
    "Hyponatremia went with death. Low sodium was common.",
    (
        MeshHeading("Hyponatremia", "D007010"),
        MeshHeading("Heart Failure", "D006333"),
        MeshHeading("odd thing", "D999999"),
    ),
)


@pytest.mark.parametrize(
    ("name", "content", "reader"), [("a.pubtator", PUBTATOR, pubtator_articles), ("a.xml", BIOC, bioc_articles)]
)
def test_annotated_abstracts(tmp_path: Path, name: str, content: str, reader: Callable[..., object]) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    assert list(reader(path)) == [MARKED, Article("32", "Nothing is marked here", "")]  # type: ignore[call-overload]


@pytest.mark.parametrize("form", BIOC_FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_form_of_bioc_json_gives_the_same_articles(tmp_path: Path, form: str, packed: bool) -> None:
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(BIOC_FORMS[form]) if packed else BIOC_FORMS[form])
    assert list(bioc_articles(path)) == [MARKED, Article("32", "Nothing is marked here", "")]
    assert read_annotations([path])["31"] == MARKED.mesh


RELATIONS = {
    "PubTator 3": {
        "infons": {
            "type": "Positive_Correlation",
            "role1": {"identifier": "MESH:D007010"},
            "role2": {"identifier": "D006333"},
        }
    },
    "by type": {"infons": {"relation": "CID", "Chemical": "D005665", "Disease": "D007010"}},
    "by annotation": {"infons": {"type": "treat"}, "nodes": [{"refid": "2", "role": ""}, {"refid": "1", "role": ""}]},
    "of a gene": {"infons": {"type": "treat"}, "nodes": [{"refid": "3"}, {"refid": "1"}]},
}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("PubTator 3", ("D007010", "increases", "D006333")),
        ("by type", ("D005665", "induces", "D007010")),
        ("by annotation", ("D006333", "treats", "D007010")),
        ("of a gene", None),
    ],
)
def test_relations_of_bioc_json(tmp_path: Path, form: str, expected: tuple[str, str, str] | None) -> None:
    (tmp_path / "a.json").write_bytes(
        orjson.dumps({"documents": [BIOC_DOCUMENTS[0] | {"relations": [RELATIONS[form]]}]})
    )
    if expected is None:
        with pytest.raises(ArticleError, match="no relation"):
            annotated_triples([tmp_path / "a.json"])
        return
    assert annotated_triples([tmp_path / "a.json"]) == {"31": (Triple(*expected, "31"),)}


def test_bioc_json_is_independent_of_chunk_boundaries() -> None:
    for form, content in BIOC_FORMS.items():
        whole = list(Cutter().documents(content, True))
        assert len(whole) == 2, form
        cutter, found = Cutter(), []
        for at in range(len(content)):
            found += cutter.documents(content[at : at + 1], False)
            cutter.forget()
        assert [*found, *cutter.documents(b"", True)] == whole, form


def test_large_bioc_json_files_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    passage = {"infons": {"type": "abstract"}, "text": "Words of an abstract that is long. " * 20, "annotations": []}
    documents = [{"id": str(n), "passages": [passage]} for n in range(1, 10_001)]
    path.write_bytes(gzip.compress(orjson.dumps({"documents": documents}), 1))
    del documents
    tracemalloc.start()
    count = sum(1 for _ in bioc_articles(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 5 * 2**20, "the file unpacks to 7.5 MB"


def test_annotations_are_added_to_the_articles_of_another_source(tmp_path: Path) -> None:
    (tmp_path / "marks.pubtator").write_text(PUBTATOR, "utf-8")
    lines = [{"pmid": 31, "title": "Ours", "mesh": [{"name": "Heart Failure", "ui": "D006333", "major": True}]}]
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(lines[0]))
    annotations = read_annotations([tmp_path / "marks.pubtator"])
    article = collect_articles("jsonl", [tmp_path / "a.jsonl"], annotations=annotations).articles["31"]
    assert [(heading.ui, heading.major) for heading in article.mesh] == [
        ("D006333", True), ("D007010", False), ("D999999", False),
    ]  # fmt: skip


@pytest.mark.shared_data
def test_every_document_of_bc5cdr_is_read(shared_data: Path) -> None:
    folder = shared_data / "pubmed" / "bc5cdr"
    collected = collect_articles("pubtator", sorted(folder.glob("*.gz")))
    assert (len(collected.articles), collected.refused) == (1500, [])
    assert collected.articles
    assert all(article.mesh for article in collected.articles.values())


# Bad input -----------------------------------------------------------------------------------------------------------


def xml(*titles: str, around: str = "<PubmedArticleSet>{}</PubmedArticleSet>") -> bytes:
    records = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{n}</PMID><Article><ArticleTitle>{title}</ArticleTitle></Article>"
        "</MedlineCitation></PubmedArticle>\n"
        for n, title in enumerate(titles, 1)
    )
    return around.format(records).encode()


def jsonl(*records: object) -> bytes:
    return b"\n".join(record if isinstance(record, bytes) else orjson.dumps(record) for record in records)


def bioc(*texts: str) -> bytes:
    documents = [
        {"id": str(n), "passages": [{"infons": {"type": "title"}, "text": text, "annotations": []}]}
        for n, text in enumerate(texts, 1)
    ]
    return orjson.dumps({"documents": documents})


def one(pmid: int, **more: object) -> dict[str, object]:
    return {"pmid": pmid, "title": f"Title {pmid}", "abstract": "An abstract."} | more


MANY = xml(*(f"Title {n} {n * 2654435761 % 1000003}" for n in range(1, 4001)))

BAD = {
    "truncated gz": ("pubmed-xml", "a.xml.gz", gzip.compress(MANY)[:-900], None, "after record"),
    "not gz at all": ("pubmed-xml", "a.xml.gz", MANY, 0, "after record 0"),
    "malformed record": ("pubmed-xml", "a.xml", xml("A", "B <b>", "C"), 2, "record 2 (PMID 2)"),
    "record without end": (
        "pubmed-xml", "a.xml", xml("A", "B", "C").replace(b"</MedlineCitation></PubmedArticle>", b"", 1), 2,
        "record 1 (PMID 1)",
    ),
    "file cut in a record": ("pubmed-xml", "a.xml", xml("A", "B")[:-60], 1, "record 2 (PMID 2)"),
    "entity": ("pubmed-xml", "a.xml", xml("A", "&undeclared;", "C"), 2, "record 2 (PMID 2)"),
    "ten megabytes": ("pubmed-xml", "a.xml", xml("A", "B" * 10_000_000, "C"), 2, "record 2 (PMID 2)"),
    "no pmid": ("pubmed-xml", "a.xml", xml("A", "B").replace(b"<PMID>1</PMID>", b""), 1, "record 1"),
    "ten megabytes of JSON": ("jsonl", "a.jsonl", jsonl(one(1), one(2, abstract="x" * 10**7), one(3)), 2, "line 2"),
    "half a line": ("jsonl", "a.jsonl", jsonl(one(1), b'{"pmid": 2, "title', one(3)), 2, "line 2"),
    "not UTF-8": ("jsonl", "a.jsonl", jsonl(one(1), b'{"pmid": 2, "title": "\xe9t\xe9"}', one(3)), 2, "line 2"),
    "truncated gz of JSON": (
        "jsonl", "a.jsonl.gz", gzip.compress(jsonl(*(one(n, year=1900 + n % 99) for n in range(1, 4000))))[:-500], None,
        "after line",
    ),
    "PubTator without blank line": (
        "pubtator", "a.pubtator", b"1|t|A\n2|t|B\n\n3|t|C\n3|a|c\n", 1, "line 2",
    ),
    "PubTator nonsense": ("pubtator", "a.pubtator", b"1|t|A\n1 and words\n\n3|t|C\n", 1, "line 2"),
    "BioC JSON without a bracket": (
        "bioc", "a.json", bioc("A", "B", "C").replace(b'"B","annotations":[]}', b'"B","annotations":[]'), 2,
        "record 2",
    ),
    "BioC JSON never closed": ("bioc", "a.json", bioc("A", "B", "C").replace(b']},{"id":"3"', b'],{"id":"3"'), 2, "2"),
    "BioC JSON without a quote": ("bioc", "a.json", bioc("A", "B", "C").replace(b'"B"', b'B"'), 2, "record 2"),
    "BioC JSON with two quotes too few": ("bioc", "a.json", bioc("A", "B", "C").replace(b'"B"', b"B"), 2, "record 2"),
    "BioC JSON, passages no list": (
        "bioc", "a.json", bioc("A", "B") + b'{"id": "3", "passages": {"text": "C"}}', 2, "record 3",
    ),
    "BioC JSON cut": ("bioc", "a.json", bioc("A", "B", "C")[:-30], 2, "record 3"),
    "BioC JSON not UTF-8": ("bioc", "a.json", bioc("A", "B", "C").replace(b"B", b"\xe9"), 2, "record 2"),
    "BioC JSON without PMID": ("bioc", "a.json", bioc("A", "B").replace(b'"id":"2"', b'"id":"PMC2"'), 1, "record 2"),
    "BioC JSON of ten megabytes": ("bioc", "a.json", bioc("A", "B" * 10_000_000, "C"), 2, "record 2"),
    "other JSON": ("bioc", "a.json", b'{"articles": [{"id": "1", "title": "A"}]}', 0, "record none"),
    "truncated gz of BioC JSON": (
        "bioc", "a.json.gz", gzip.compress(bioc(*(f"Title {n * 2654435761 % 1000003}" for n in range(3999))))[:-600],
        None, "after record",
    ),
    "BioC malformed": ("bioc", "a.xml", BIOC.replace("<text>heart failure</text>", "<text>").encode(), 1, "record 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_malformed_records_are_reported_and_others_kept(tmp_path: Path, case: str) -> None:
    source, name, content, kept, record = BAD[case]
    (tmp_path / name).write_bytes(content)
    collected = collect_articles(source, [tmp_path / name])
    assert len(collected.refused) == 1
    error = collected.refused[0]
    assert error.file == str(tmp_path / name)
    assert record in f"record {error.record}"
    assert len(collected.articles) == kept if kept is not None else 0 < len(collected.articles) < 4000


def test_damaged_archives_are_reported_and_rejected_by_md5(tmp_path: Path) -> None:
    packed = gzip.compress(MANY)
    damaged = packed[:9000] + bytes([packed[9000] ^ 64]) + packed[9001:]
    path = tmp_path / "a.xml.gz"
    path.write_bytes(damaged)
    collected = collect_articles("pubmed-xml", [path])
    assert len(collected.articles) > 500
    assert "cannot be read further" in str(collected.refused[-1])
    (tmp_path / "a.xml.gz.md5").write_text(f"MD5(a.xml.gz)= {hashlib.md5(packed).hexdigest()}\n")
    collected = collect_articles("pubmed-xml", [path])
    assert (len(collected.articles), len(collected.refused)) == (0, 1)
    assert "is not what a.xml.gz.md5 says" in str(collected.refused[0])
    path.write_bytes(packed)
    assert len(collect_articles("pubmed-xml", [path]).articles) == 4000


NOTICED = {
    "no abstract": ([one(1, abstract=""), one(2)], "no abstract, the title alone is indexed", "record 1 (PMID 1)"),
    "another language": ([one(1), one(2, language="fre")], "not in English", "record 2 (PMID 2)"),
    "a PMID twice": (
        [one(1), one(2), one(1, title="Later")], "a PMID for the second time, the last record is kept",
        "record 3 (PMID 1)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTICED)
def test_notable_records_are_kept_and_located(tmp_path: Path, case: str) -> None:
    records, words, place = NOTICED[case]
    (tmp_path / "a.jsonl").write_bytes(jsonl(*records))
    collected = collect_articles("jsonl", [tmp_path / "a.jsonl"])
    assert sorted(collected.articles) == ["1", "2"]
    assert not collected.refused
    assert {name: noticed.places for name, noticed in collected.noticed.items()} == {
        words: [f"{tmp_path / 'a.jsonl'}, {place}"]
    }


def test_only_the_first_locations_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(*(one(n, abstract="") for n in range(1, 51))))
    noticed = collect_articles("jsonl", [tmp_path / "a.jsonl"]).noticed["no abstract, the title alone is indexed"]
    assert (noticed.count, len(noticed.places)) == (50, 3)


def test_a_source_without_articles_is_an_error(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    with pytest.raises(ArticleError, match="no article to index"):
        build_index(CollectedArticles().articles, tmp_path / "index", encoder)
