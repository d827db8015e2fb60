"""Titles, powers, formulas, book records and versions of PubMed's XML, and the numbers of PMC's BioC."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knowledge_index import Article, ArticleError, MiniLMEncoder, update_index
from knowledge_index.indexing.build import build_index
from knowledge_index.sources.annotations import annotated_triples, bioc_articles
from knowledge_index.sources.articles import CollectedArticles, collect_articles
from knowledge_index.sources.pubmed_xml import read_pubmed_xml

HEAD, TAIL = '<?xml version="1.0"?><PubmedArticleSet>', "</PubmedArticleSet>"
MML = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'


def article(pmid: int, title: str, version: int = 1, abstract: str = "Sepsis.", vernacular: str = "") -> str:
    original = f"<VernacularTitle>{vernacular}</VernacularTitle>" if vernacular else ""
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID><Article><Journal><JournalIssue>'
        f"<PubDate><Year>2021</Year></PubDate></JournalIssue></Journal><ArticleTitle>{title}</ArticleTitle><Abstract>"
        f"<AbstractText>{abstract}</AbstractText></Abstract><Language>eng</Language>{original}</Article>"
        f"</MedlineCitation></PubmedArticle>"
    )


def deletion(pmid: int, version: int) -> str:
    return f'<DeleteCitation><PMID Version="{version}">{pmid}</PMID></DeleteCitation>'


def pubmed(path: Path, *records: str, head: str = HEAD) -> Path:
    path.write_text(head + "".join(records) + TAIL, "utf-8")
    return path


def collected(path: Path, *records: str) -> CollectedArticles:
    return collect_articles("pubmed-xml", [pubmed(path / "a.xml", *records)])


TITLES = [
    ("[Heart failure in the elderly].", "", "Heart failure in the elderly"),
    ("[Heart failure in the elderly]", "", "Heart failure in the elderly"),
    ("[Is it [18F]FDG?].", "", "Is it [18F]FDG?"),
    ("[18F]FDG uptake.", "", "[18F]FDG uptake."),
    ("Dose of amiodarone [corrected].", "", "Dose of amiodarone [corrected]."),
    ("[3H]digoxin and [14C]inulin [abstract].", "", "[3H]digoxin and [14C]inulin [abstract]."),
    ("[Not Available].", "Insuffisance cardiaque.", "Insuffisance cardiaque."),
    ("[Not available]", "Herzinsuffizienz.", "Herzinsuffizienz."),
    ("[Not Available].", "", ""),
    ("Not all available beds.", "Nicht alle Betten.", "Not all available beds."),
    ("Plain.", "", "Plain."),
]


@pytest.mark.parametrize(("written", "vernacular", "title"), TITLES)
def test_titles(tmp_path: Path, written: str, vernacular: str, title: str) -> None:
    (found,) = read_pubmed_xml(pubmed(tmp_path / "a.xml", article(1, written, vernacular=vernacular)))
    assert isinstance(found, Article)
    assert found.title == title


SUM = "<mml:mrow><mml:mi>a</mml:mi><mml:mo>+</mml:mo><mml:mi>b</mml:mi></mml:mrow>"
TEXTS = [
    ("&#x2265;10<sup>5</sup> CFU", "\u226510^5 CFU"),
    ("10<sup>-3</sup> mol", "10^-3 mol"),
    ("30 kg/m<sup>2</sup>", "30 kg/m^2"),
    ("mm<sup>3</sup> and <i>P</i> &lt; 10<sup>\u22124</sup>", "mm^3 and P < 10^\u22124"),
    ("Ca<sup>2+</sup>, CD4<sup>+</sup>", "Ca2+, CD4+"),
    ("<sup>18</sup>F-FDG and [<sup>99m</sup>Tc]", "18F-FDG and [99mTc]"),
    ("the 1<sup>st</sup> dose, Brand<sup>\u00ae</sup>", "the 1st dose, Brand\u00ae"),
    ("CO<sub>2</sub>, log<sub>10</sub>", "CO2, log10"),
    (f"<mml:math {MML}><mml:msup><mml:mn>10</mml:mn><mml:mn>5</mml:mn></mml:msup></mml:math> CFU", "10^5 CFU"),
    (f"<mml:math {MML}><mml:mfrac><mml:mn>1</mml:mn><mml:mi>n</mml:mi></mml:mfrac></mml:math>", "1/n"),
    (f"<mml:math {MML}><mml:msup><mml:mi>e</mml:mi>{SUM}</mml:msup></mml:math>", "e^(a+b)"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "text"), TEXTS)
def test_powers_and_formulas(tmp_path: Path, written: str, text: str) -> None:
    (found,) = read_pubmed_xml(pubmed(tmp_path / "a.xml", article(1, "Plain.", abstract=written)))
    assert isinstance(found, Article)
    assert found.abstract == text


def test_a_prefix_bound_by_the_file_is_bound_in_its_records(tmp_path: Path) -> None:
    formula = "<mml:math><mml:msup><mml:mn>10</mml:mn><mml:mn>9</mml:mn></mml:msup></mml:math>"
    head = f"<PubmedArticleSet {MML}>"
    (found,) = read_pubmed_xml(pubmed(tmp_path / "a.xml", article(1, "Plain.", abstract=formula), head=head))
    assert isinstance(found, Article)
    assert found.abstract == "10^9"


def test_book_records_are_read(tmp_path: Path) -> None:
    book = (
        "<PubmedBookArticle><BookDocument><PMID>7</PMID><Book><BookTitle>A Handbook</BookTitle><PubDate><Year>2022"
        "</Year></PubDate></Book>{title}<Language>eng</Language><Abstract><AbstractText>Renal failure."
        "</AbstractText></Abstract></BookDocument></PubmedBookArticle>"
    )
    chapter = book.format(title="<ArticleTitle>A Chapter</ArticleTitle>")
    whole = book.format(title="").replace(">7<", ">8<")
    found = collected(tmp_path, chapter, whole)
    assert [(a.pmid, a.title, a.year, a.abstract) for a in found.articles.values()] == [
        ("7", "A Chapter", 2022, "Renal failure."),
        ("8", "A Handbook", 2022, "Renal failure."),
    ]


ONE, TWO, THREE = (article(5, f"Version {n}.", n) for n in (1, 2, 3))
VERSIONS = [
    ("in order", [ONE, TWO], "Version 2."),
    ("an older one later", [TWO, ONE], "Version 2."),
    ("three", [TWO, THREE, ONE], "Version 3."),
    ("the same again", [article(5, "First.", 2), TWO], "Version 2."),
    ("the older one deleted", [ONE, TWO, deletion(5, 1)], "Version 2."),
    ("the older one deleted, read last", [TWO, ONE, deletion(5, 1)], "Version 2."),
    ("the newer one deleted", [ONE, TWO, deletion(5, 2)], "Version 1."),
    ("an unknown one deleted", [TWO, deletion(5, 1)], "Version 2."),
    ("all deleted", [ONE, TWO, deletion(5, 1), deletion(5, 2)], None),
    ("deleted", [ONE, deletion(5, 1)], None),
    ("deleted and added again", [ONE, deletion(5, 1), ONE], "Version 1."),
]


@pytest.mark.parametrize(("name", "records", "title"), VERSIONS, ids=[row[0] for row in VERSIONS])
def test_the_newest_version_of_a_record_counts(
    tmp_path: Path, name: str, records: list[str], title: str | None
) -> None:
    found = collected(tmp_path, article(6, "Another."), *records)
    assert {pmid: item.title for pmid, item in found.articles.items()} == {"6": "Another."} | (
        {"5": title} if title else {}
    )
    assert ("5" in found.deletions) is (title is None)


@pytest.mark.parametrize(
    ("update", "title"),
    [(ONE, "Version 2."), (THREE, "Version 3."), (deletion(5, 1), "Version 2."), (deletion(5, 2), None)],
)
def test_an_index_keeps_the_newest_version(
    tmp_path: Path, encoder: MiniLMEncoder, update: str, title: str | None
) -> None:
    build_index(collected(tmp_path, article(6, "Another."), TWO).articles, tmp_path / "index", encoder)
    came = collected(tmp_path, update)
    update_index(tmp_path / "index", came.articles, came.deletions, encoder, versions=came.deleted_versions)
    stored = [
        json.loads(line)
        for path in (tmp_path / "index").rglob("articles.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert next((item["title"] for item in stored if item["pmid"] == "5"), None) == title


def bioc(path: Path, identifier: str, infons: dict[str, str], source: str, form: str) -> Path:
    if form == "xml":
        keys = "".join(f'<infon key="{key}">{value}</infon>' for key, value in infons.items())
        path.write_text(
            f"<collection><source>{source}</source><document><id>{identifier}</id><passage>{keys}"
            f'<infon key="type">title</infon><text>Sepsis</text></passage></document></collection>'
        )
    else:
        passage = {"infons": {**infons, "type": "title"}, "text": "Sepsis"}
        path.write_text(json.dumps({"source": source, "documents": [{"id": identifier, "passages": [passage]}]}))
    return path


NUMBERS = [
    ("7900001", {"article-id_pmc": "7900001", "article-id_pmid": "33900001"}, "PMC", "33900001"),
    ("PMC7900001", {"article-id_pmid": "33900001"}, "PMC", "33900001"),
    ("7900001", {"article-id_pmc": "7900001"}, "PMC", None),
    ("PMC7900001", {}, "", None),
    ("33900001", {}, "PubTator", "33900001"),
    ("33900001", {"year": "2020"}, "", "33900001"),
]


@pytest.mark.parametrize("form", ["xml", "json"])
@pytest.mark.parametrize(("identifier", "infons", "source", "pmid"), NUMBERS)
def test_a_pmc_number_is_no_pmid(
    tmp_path: Path, identifier: str, infons: dict[str, str], source: str, pmid: str | None, form: str
) -> None:
    path = bioc(tmp_path / f"a.{form}", identifier, infons, source, form)
    refused: list[ArticleError] = []
    found = [item.pmid for item in bioc_articles(path, refused.append)]
    assert found == ([] if pmid is None else [pmid])
    assert ["PMC number" in str(error) for error in refused] == ([True] if pmid is None else [])


def test_relations_of_a_document_without_a_pmid_are_refused(tmp_path: Path) -> None:
    refused: list[ArticleError] = []
    with pytest.raises(ArticleError, match="no relation"):
        annotated_triples([bioc(tmp_path / "a.json", "PMC7900001", {}, "PMC", "json")], refused.append)
    assert "PMC number" in str(refused[0])
