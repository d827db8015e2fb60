"""The frozen values of `knowledge_index`, in the terms of information retrieval and MeSH."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeshHeading:
    """One MeSH heading of an article. `ui` is the descriptor id (`D006333`); empty where the source gives names.

    `qualifiers` are names of subheadings (`therapy`), with a leading star where the subheading is a major topic.
    """

    name: str
    ui: str = ""
    major: bool = False
    qualifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """A PubMed notice about an article: `kind` is its RefType (`RetractionIn`, `ErratumIn`, `RetractionOf`).

    `pmid` is the id of the other article, empty where it has none.
    """

    kind: str
    pmid: str = ""


@dataclass(frozen=True, slots=True)
class Article:
    """One PubMed record, or one entry of the starter base, whose `abstract` is a sentence of this project or empty.

    `language` is MEDLINE's three-letter code where it is not English; the title is then a translation. `factors` and
    `outcomes` name what a curated article is about, each factor with each outcome; empty where the article is not
    curated. `populations` are factors, one of which every patient in it had (infarction); empty for hospital patients
    in general.
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
    first_author: str | None = None
    journal: str | None = None
    factors: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    populations: tuple[str, ...] = ()
    version: int = 1
    """PubMed's version of the record; the newest one is searched."""

    @property
    def text(self) -> str:
        """The indexed text: title and abstract."""
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
    """A statement of an article about two concepts; `relation` is a verb phrase (`induces`, `treats`)."""

    subject: str
    relation: str
    object: str
    pmid: str


@dataclass(frozen=True, slots=True)
class LinkedConcept:
    """A concept found for a patient: from a code, or from text (then `start`, `end` are offsets into it)."""

    concept: Concept
    mention: str
    source: str
    start: int | None = None
    end: int | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Factor:
    """Something that may raise or lower a risk: a measurement, a diagnosis, a score, a feature of the stay.

    `label` is how a sentence names it ("serum sodium"); `headings` are the MeSH headings of papers about it;
    `concepts` are the names under which models, scores and code groups know it.
    """

    name: str
    label: str
    headings: tuple[str, ...]
    concepts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome of a hospital stay: name, label, search words, and the MeSH headings and subheadings of papers."""

    name: str
    label: str
    words: str
    headings: tuple[str, ...]
    qualifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiteratureSubject:
    """A factor and an outcome that a paper must be about."""

    factor: Factor
    outcome: Outcome

    def gap_in_words(self) -> str:
        """A sentence for a subject that no article is about.

        >>> LiteratureSubject(Factor("sepsis", "sepsis", ()), Outcome("mortality", "mortality", "", ())).gap_in_words()
        'No study of sepsis and mortality in the evidence base'
        """
        return f"No study of {self.factor.label} and {self.outcome.label} in the evidence base"


@dataclass(frozen=True, slots=True)
class Query:
    """A literature query: text for BM25 and the encoder, descriptor ids as seeds for the graph.

    With a `subject` only articles about its factor and its outcome are returned.
    """

    text: str
    concepts: tuple[str, ...] = ()
    subject: LiteratureSubject | None = None


@dataclass(frozen=True, slots=True)
class PathStep:
    """One edge on the path from a patient concept to an article; `relation` is a phrase (`cited by`)."""

    source: str
    relation: str
    target: str


@dataclass(frozen=True, slots=True)
class Community:
    """One community of articles at one level of the hierarchy (0 is the finest).

    `concepts` are the names of its most strongly linked concepts, `titles` those of its articles most cited in the
    index; `parent` is the number of the enclosing community at the next level, None at the coarsest.
    """

    level: int
    number: int
    articles: int
    concepts: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    parent: int | None = None

    def in_words(self) -> str:
        """A sentence that describes the community.

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
    """A retrieved passage. `score` is comparable within one run only; `path` is how the graph reached it, and
    `community` the part of the literature it belongs to (None where it has none).
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
    """PMIDs the article cites, as far as the source lists them."""
    first_author: str | None = None
    journal: str | None = None
    factor: str | None = None
    """Label of the query's factor that the article is about; None if the query named none. Likewise `outcome`."""
    outcome: str | None = None
    remoteness: int = 0
    """0 where the article observes the factor itself; see `retrieval.subjects.remoteness`."""
    populations: tuple[str, ...] = ()

    @property
    def finding(self) -> str:
        """The passage where it says more than the title; empty where only a title is known."""
        return "" if self.passage == self.title else self.passage

    @property
    def citation(self) -> str:
        """First author, journal and year, as far as they are known.

        >>> Evidence("1", "A title", "", 1.0, "graph", 2013, first_author="Corona", journal="PLoS One").citation
        'Corona et al., PLoS One 2013'
        """
        journal = " ".join(filter(None, (self.journal, str(self.year) if self.year else None)))
        return ", ".join(filter(None, (f"{self.first_author} et al." if self.first_author else None, journal)))

    @property
    def url(self) -> str:
        return f"https://pubmed.ncbi.nlm.nih.gov/{int(self.pmid)}/"

    def path_in_words(self) -> str:
        """`Heart Failure -> heading of -> 12345678`; empty where only text matched."""
        if not self.path:
            return ""
        return self.path[0].source + "".join(f" → {step.relation} → {step.target}" for step in self.path)
