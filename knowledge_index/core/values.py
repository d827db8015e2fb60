"""The frozen values of the knowledge room, in the words of information retrieval and of MeSH."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeshHeading:
    """One MeSH heading of an article. `ui` is the descriptor id (`D006333`); empty where the source gives names.

    `qualifiers` are names of subheadings (`therapy`), a star before those that are major topics of their own.
    """

    name: str
    ui: str = ""
    major: bool = False
    qualifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """What PubMed says of an article's standing: `kind` is its RefType (`RetractionIn`, `ErratumIn`, `RetractionOf`).

    `pmid` is the other article's id, empty where the other has none.
    """

    kind: str
    pmid: str = ""


@dataclass(frozen=True, slots=True)
class Article:
    """One PubMed record, or one entry of the starter base (then `abstract` is our own sentence of finding).

    `language` is MEDLINE's three letters where it is not English; the title is then a translation.
    """

    pmid: str
    title: str
    abstract: str
    mesh: tuple[MeshHeading, ...] = ()
    year: int | None = None
    references: tuple[str, ...] = ()
    study_type: str | None = None
    retracted: bool = False
    notices: tuple[Notice, ...] = ()
    language: str | None = None

    @property
    def text(self) -> str:
        """What is indexed: title and abstract."""
        return f"{self.title}\n{self.abstract}".strip()


@dataclass(frozen=True, slots=True)
class Concept:
    """A MeSH descriptor. `tree_numbers` such as `C14.280.434` place it in the MeSH tree."""

    ui: str
    name: str
    tree_numbers: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Triple:
    """What an article says of two concepts: `relation` reads between their names (`induces`, `treats`)."""

    subject: str
    relation: str
    object: str
    pmid: str


@dataclass(frozen=True, slots=True)
class LinkedConcept:
    """A concept found for a patient: from a code, or from words (then `start`, `end` are offsets into that text)."""

    concept: Concept
    mention: str
    source: str
    start: int | None = None
    end: int | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A short question to the literature: text for BM25 and the encoder, descriptor ids as seeds for the graph."""

    text: str
    concepts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathStep:
    """One edge on the way from a patient concept to an article; `relation` reads as words (`cited by`)."""

    source: str
    relation: str
    target: str


@dataclass(frozen=True, slots=True)
class Community:
    """Articles of an index more tied to one another than to the rest: one community of one level (0 is the finest).

    `concepts` are the names that tie them most, `titles` those of the articles most cited in the index; `parent` is
    the number of the community of the next level that holds this one, None at the last.
    """

    level: int
    number: int
    articles: int
    concepts: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    parent: int | None = None

    def in_words(self) -> str:
        """A sentence about it.

        >>> Community(0, 3, 12, ("Heart Failure", "Aged"), ("After discharge.",)).in_words()
        '12 articles on Heart Failure and Aged, such as "After discharge".'
        """
        several = [", ".join(self.concepts[:-1]), *self.concepts[-1:]]
        about = " and ".join(filter(None, several)) or "no common concept"
        quoted = ", ".join(f'"{title.rstrip(".")}"' for title in self.titles if title)
        number = f"{self.articles:,} article{'' if self.articles == 1 else 's'}"
        return f"{number} on {about}" + (f", such as {quoted}." if quoted else ".")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A retrieved passage. `score` is comparable within one run only; `path` tells how the graph reached it, and
    `community` which part of the literature it belongs to (None where it stands alone).
    """

    pmid: str
    title: str
    passage: str
    score: float
    retriever: str
    year: int | None = None
    study_type: str | None = None
    path: tuple[PathStep, ...] = ()
    mesh: tuple[str, ...] = ()
    community: Community | None = None
    references: tuple[str, ...] = ()
    """PMIDs the article cites, as far as the index was told."""

    @property
    def url(self) -> str:
        return f"https://pubmed.ncbi.nlm.nih.gov/{int(self.pmid)}/"

    def path_in_words(self) -> str:
        """`Heart Failure -> heading of -> 12345678`; empty when only text matched."""
        if not self.path:
            return ""
        return self.path[0].source + "".join(f" → {step.relation} → {step.target}" for step in self.path)
