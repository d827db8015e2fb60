"""PubTator files: text, mentions, relations; and lines that are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from knowledge_index import ArticleError
from knowledge_index.sources.pubtator import read_pubtator

GOOD = """1|t|Quillamide and fever.
1|a|Two cases | of fever.
1\t0\t10\tQuillamide\tChemical\tMESH:D900002
1\t15\t20\tfever\tDisease\tD1|D2
1\t22\t25\tTwo\tDisease\t-1
1\tCID\tD900002\tD1

2|t|Nothing more
2|a|
"""


@pytest.mark.parametrize("packed", [False, True])
def test_documents_are_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("x.pubtator.gz" if packed else "x.pubtator")
    path.write_bytes(gzip.compress(GOOD.encode()) if packed else GOOD.encode())
    first, second = read_pubtator(path)
    assert (first.article.pmid, first.article.title) == ("1", "Quillamide and fever.")
    assert first.article.abstract == "Two cases | of fever."
    for item in first.annotations:
        assert first.text[item.start : item.end] == item.mention
    assert [item.ids for item in first.annotations] == [("D900002",), ("D1", "D2"), ()]
    assert [(t.subject, t.relation, t.object, t.pmid) for t in first.triples] == [("D900002", "induces", "D1", "1")]
    assert (second.article.pmid, second.annotations, second.triples) == ("2", (), ())


@pytest.mark.parametrize("line", ["1|x|what", "1|t", "1\t5", "1\t0\tx\tw\tDisease\tD1", "1\tCID\tD1"])
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x").write_text(f"1|t|Title\n{line}\n")
    with pytest.raises(ArticleError, match="line 2"):
        list(read_pubtator(tmp_path / "x"))


def test_the_whole_corpus_is_read(shared_data: Path) -> None:
    documents = [d for path in sorted((shared_data / "pubmed" / "bc5cdr").glob("*")) for d in read_pubtator(path)]
    assert len(documents) == 1500
    assert sum(len(document.triples) for document in documents) == 3116
    assert all(d.text[a.start : a.end] == a.mention for d in documents for a in d.annotations)
