"""Reads NLM's descriptor files: `desc2026.xml` (or .gz) and the ASCII `d2026.bin`.

Both hold every MeSH descriptor with its tree numbers and entry terms; NLM publishes them every year. Formats:
"MeSH XML Data Elements" and "MeSH ASCII Data Elements" of the MeSH documentation.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from defusedxml import ElementTree

from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.values import Concept


def read_descriptors(path: Path) -> Iterator[Concept]:
    """Every descriptor of an NLM file, with entry terms as synonyms; the format is detected from the content.

    Raises `ArtifactError` for a file that is neither XML nor ASCII, or truncated.
    """
    with _open(path) as stream:
        start = stream.read(256).lstrip(b"\xef\xbb\xbf \r\n\t")
    if start.startswith(b"<"):
        yield from _from_xml(path)
    elif start.startswith(b"*NEWRECORD"):
        yield from _from_ascii(path)
    else:
        raise ArtifactError("neither MeSH descriptor XML nor MeSH ASCII (*NEWRECORD)", path=str(path))


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _from_xml(path: Path) -> Iterator[Concept]:
    with _open(path) as stream:
        try:
            for _, element in ElementTree.iterparse(stream, events=("end",), forbid_dtd=False):
                if element.tag == "DescriptorRecord":
                    yield _record(element, path)
                    element.clear()
        except (ElementTree.ParseError, EOFError, gzip.BadGzipFile) as error:
            raise ArtifactError(f"not readable as MeSH XML: {error}", path=str(path)) from error


def _record(element: object, path: Path) -> Concept:
    find, findall = element.findtext, element.findall  # type: ignore[attr-defined]
    ui, name = find("DescriptorUI"), find("DescriptorName/String")
    if not ui or not name:
        raise ArtifactError("a DescriptorRecord without DescriptorUI or DescriptorName", path=str(path))
    terms = [term.text for term in findall("ConceptList/Concept/TermList/Term/String") if term.text]
    numbers = tuple(number.text for number in findall("TreeNumberList/TreeNumber") if number.text)
    return Concept(ui, name, numbers, _others(name, terms))


def _from_ascii(path: Path) -> Iterator[Concept]:
    """Records of `ELEMENT = value` lines. Text after the first bar of an entry term is metadata."""
    record: dict[str, list[str]] = {}
    with _open(path) as stream:
        for line in stream:
            text = line.decode("utf-8", "replace").strip()
            if text == "*NEWRECORD" and record:
                yield _ascii_record(record, path)
                record = {}
            name, equals, value = text.partition(" = ")
            if equals:
                record.setdefault(name, []).append(value)
    if record:
        yield _ascii_record(record, path)


def _ascii_record(record: dict[str, list[str]], path: Path) -> Concept:
    if not record.get("UI") or not record.get("MH"):
        raise ArtifactError(f"a record without UI or MH after {record}"[:200], path=str(path))
    name = record["MH"][0]
    terms = [entry.split("|", 1)[0] for entry in (*record.get("ENTRY", ()), *record.get("PRINT ENTRY", ()))]
    return Concept(record["UI"][0], name, tuple(record.get("MN", ())), _others(name, terms))


def _others(name: str, terms: list[str]) -> tuple[str, ...]:
    return tuple(term for term in dict.fromkeys(terms) if term != name)
