"""The literature as a reading list, and the retrieval paths as a graph of chart terms, headings and articles."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cds_service.cards.escape import plain
from cds_service.cards.wording import outcome_name
from cds_service.explanations.notes import ConceptMentions
from fhir_mapping import PatientRecord
from knowledge_index import Evidence, KnowledgeIndex
from risk_model import TASKS, Assessment

MAX_CONDITIONS = 40
MAX_ORIGINS = 3
MAX_GAPS = 3
"""Problems of each task, the most relevant first, whose missing literature is named."""
CHARS, MAX_LINES, LINE, PAD, GAP = 19, 3, 13.0, 7.0, 10.0
COLUMN, NODE, TOP, ARC = 138.0, 118.0, 22.0, 26.0
_KINDS = {"chart": "In the chart", "heading": "MeSH heading", "article": "Article"}


@dataclass(frozen=True, slots=True)
class LiteratureItem:
    """One article of the list. `url` is its PubMed page; `anchor` is its id on the page; `facts` are first author,
    journal, year and design; `about` names factor and outcome; `finding` is empty where only the title is known.
    """

    anchor: str
    pmid: int
    title: str
    finding: str
    facts: str
    url: str
    tasks: str
    about: str


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    kind: str
    column: int
    lines: tuple[str, ...]
    full: str
    href: str
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str
    relation: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceGraph:
    """Laid out in columns, every node a link within the page; `sentences` describe each edge as text."""

    width: float
    height: float
    columns: tuple[tuple[float, str], ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    sentences: tuple[str, ...]

    @property
    def citations(self) -> int:
        """The number of citations between articles."""
        return sum(edge.relation in {"cites", "cited by"} for edge in self.edges)


@dataclass(frozen=True, slots=True)
class Literature:
    """The reading list. `gaps` are sentences on the patient's first problems that no article is about."""

    readings: tuple[LiteratureItem, ...]
    graph: EvidenceGraph | None
    withheld: int
    unfinished: bool
    gaps: tuple[str, ...] = ()


def literature(
    assessments: Sequence[Assessment],
    record: PatientRecord,
    notes_say: Sequence[ConceptMentions],
    index: KnowledgeIndex,
) -> Literature:
    """Returns each article once, with the tasks it was found for; the graph only if there are retrieval paths."""
    tasks: dict[str, list[str]] = {}
    found: dict[str, Evidence] = {}
    for assessment in assessments:
        for item in assessment.evidence:
            found.setdefault(item.pmid, item)
            tasks.setdefault(item.pmid, []).append(outcome_name(TASKS[assessment.estimate.task]))
    readings = tuple(reading(item, tasks[item.pmid]) for item in found.values())
    graph = _graph(tuple(found.values()), origins(record, notes_say, index)) if found else None
    unfinished = any("literature" in assessment.left_out for assessment in assessments)
    gaps = dict.fromkeys(question.gap for a in assessments for question in a.asked[:MAX_GAPS] if question.gap)
    withheld = max(a.evidence_withheld for a in assessments)
    return Literature(readings, graph, withheld, unfinished, tuple(plain(words, 200) for words in gaps))


def reading(item: Evidence, tasks: Sequence[str]) -> LiteratureItem:
    """Returns one article as the page lists it."""
    facts = " · ".join(filter(None, (plain(item.citation, 200), plain(item.study_type or "", 60))))
    about = " and ".join(filter(None, (item.factor, item.outcome))) or "this patient's problems"
    return LiteratureItem(
        f"pmid-{int(item.pmid)}", int(item.pmid), plain(item.title, 400), plain(item.finding, 1200), facts, item.url,
        ", ".join(dict.fromkeys(tasks)), plain(about, 200),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """A chart term that maps to a heading, with its link within the page."""

    words: str
    href: str


def origins(
    record: PatientRecord, notes_say: Sequence[ConceptMentions], index: KnowledgeIndex
) -> Mapping[str, tuple[Origin, ...]]:
    """The chart terms of each heading: reasons for admission, active problems, findings in notes."""
    found: dict[str, dict[str, Origin]] = {}

    def add(heading: str, words: str, href: str) -> None:
        known = found.setdefault(heading, {})
        if len(known) < MAX_ORIGINS:
            known.setdefault(words.casefold(), Origin(plain(words, 120), href))

    stay = record.current_stay
    for coding in stay.reasons if stay else ():
        for linked in index.link_codes([(coding.system, coding.code, coding.display)]):
            add(linked.concept.name, coding.display or linked.concept.name, "#stay")
    for condition in [c for c in record.conditions if c.active][-MAX_CONDITIONS:]:
        for linked in index.link_codes((c.system, c.code, c.display) for c in condition.codings):
            add(linked.concept.name, condition.text or linked.concept.name, "#problems")
    for said in notes_say:
        if said.kind == "present" and said.passages:
            add(said.name, f"“{said.passages[0].quote}”", f"#{said.anchor}")
    return {heading: tuple(words.values()) for heading, words in found.items()}


@dataclass(slots=True)
class _Drawing:
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)

    def node(self, key: str, kind: str, column: int, text: str, href: str) -> str:
        known = self.nodes.get(key)
        if known is None:
            wrapped = textwrap.wrap(plain(text, 200), CHARS, max_lines=MAX_LINES, placeholder=" …") or ["–"]
            self.nodes[key] = Node(f"n{len(self.nodes)}", kind, column, tuple(wrapped), plain(text, 200), href)
        return key

    def edge(self, source: str, target: str, relation: str) -> None:
        if source != target:
            self.edges.setdefault((source, target), Edge(source, target, relation))


def _graph(evidence: Sequence[Evidence], said: Mapping[str, tuple[Origin, ...]]) -> EvidenceGraph | None:
    """Columns: chart terms, each heading of the paths, articles, and articles reached by citation."""
    drawing = _Drawing()
    by_pmid = {f"PMID {int(item.pmid)}": item for item in evidence}
    # Articles reached from headings share one column, whatever the number of headings on their paths.
    first_articles = 1 + max((_headings(item) for item in evidence), default=0)
    for item in evidence:
        names = [step.source for step in item.path[:1]] + [step.target for step in item.path]
        headings = _headings(item)
        for place, name in enumerate(names):
            column = 1 + place if place < headings else first_articles + place - headings
            _step_node(drawing, name, column, by_pmid)
        if item.path:
            _origins(drawing, names[0], said.get(names[0], ()))
        for step in item.path:
            drawing.edge(step.source, step.target, step.relation)
    _citations(drawing, evidence)
    return _laid_out(drawing) if drawing.edges else None


def _citations(drawing: _Drawing, evidence: Sequence[Evidence]) -> None:
    """Adds the citations between listed articles; articles found by text search alone are not in the graph."""
    listed = {item.pmid: f"PMID {int(item.pmid)}" for item in evidence}
    for item in evidence:
        for cited in item.references:
            if cited in listed and listed[item.pmid] in drawing.nodes and listed[cited] in drawing.nodes:
                drawing.edge(listed[item.pmid], listed[cited], "cites")


def _headings(item: Evidence) -> int:
    """The number of headings before the first article of a path."""
    names = [step.source for step in item.path[:1]] + [step.target for step in item.path]
    return next((place for place, name in enumerate(names) if name.startswith("PMID ")), len(names))


def _step_node(drawing: _Drawing, name: str, column: int, by_pmid: Mapping[str, Evidence]) -> str:
    item = by_pmid.get(name)
    if item is not None:
        year = f" ({item.year})" if item.year else ""
        return drawing.node(name, "article", column, f"{item.title}{year}", f"#pmid-{int(item.pmid)}")
    kind = "article" if name.startswith("PMID ") else "heading"
    return drawing.node(name, kind, column, name, "#reading-list")


def _origins(drawing: _Drawing, heading: str, said: Iterable[Origin]) -> None:
    for origin in said:
        key = drawing.node(f"chart {origin.words}", "chart", 0, origin.words, origin.href)
        drawing.edge(key, heading, "means")


def _laid_out(drawing: _Drawing) -> EvidenceGraph:
    """Stacks nodes within their columns, near the nodes that lead to them; edges curve between the facing sides."""
    columns = sorted({node.column for node in drawing.nodes.values()})
    heights = {
        column: sum(_height(node) + GAP for node in drawing.nodes.values() if node.column == column) - GAP
        for column in columns
    }
    tallest = max(heights.values())
    placed: dict[str, Node] = {}
    heads: list[tuple[float, str]] = []
    for place, column in enumerate(columns):
        x, y = place * COLUMN + 2, TOP + (tallest - heights[column]) / 2
        stack = [(key, node) for key, node in drawing.nodes.items() if node.column == column]
        heads.append((x, _KINDS[stack[0][1].kind]))
        for key, node in sorted(stack, key=lambda item: _led_from(item[0], drawing, placed)):
            placed[key] = replace(node, x=x, y=round(y, 1), height=_height(node))
            y += _height(node) + GAP
    edges = tuple(
        Edge(placed[e.source].id, placed[e.target].id, e.relation, _curve(placed[e.source], placed[e.target]))
        for e in drawing.edges.values()
    )
    arcs = any(placed[e.source].x >= placed[e.target].x for e in drawing.edges.values())
    width = (len(columns) - 1) * COLUMN + NODE + 4 + (ARC if arcs else 0)
    height = round(TOP + tallest + 4, 1)
    return EvidenceGraph(width, height, tuple(heads), tuple(placed.values()), edges, tuple(_sentences(drawing)))


def _led_from(key: str, drawing: _Drawing, placed: Mapping[str, Node]) -> float:
    """The mean y of the nodes that lead here; sorting by it keeps edges from crossing."""
    sources = [placed[e.source] for e in drawing.edges.values() if e.target == key and e.source in placed]
    return sum(node.y + node.height / 2 for node in sources) / len(sources) if sources else 0.0


def _height(node: Node) -> float:
    return len(node.lines) * LINE + 2 * PAD


def _curve(source: Node, target: Node) -> str:
    x1, y1 = source.x + NODE, source.y + source.height / 2
    x2, y2 = target.x, target.y + target.height / 2
    if x2 <= x1:  # between articles of one column: an arc on their right
        x1, x2 = source.x + NODE, target.x + NODE
    middle = (x1 + x2) / 2 if x2 > x1 else max(x1, x2) + ARC
    return f"M{x1:.0f} {y1:.1f}C{middle:.0f} {y1:.1f} {middle:.0f} {y2:.1f} {x2:.0f} {y2:.1f}"


def _sentences(drawing: _Drawing) -> Iterator[str]:
    for edge in drawing.edges.values():
        source, target = drawing.nodes[edge.source], drawing.nodes[edge.target]
        start = f"In the chart: {source.full}" if source.kind == "chart" else source.full
        yield f"{start} → {edge.relation} → {target.full}"
