"""Notes written from what a record holds, so that the record is the label: `tables/note_styles.yaml`, put in sentences.

    facts = drawn(Random(7))                      # or facts_of(record, index)
    example = write(facts, style, Random(7))      # a window of a note with the right answer

A style belongs to one part (train, validation, test): test notes are in styles that no training note has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml

from fhir_mapping import PatientRecord
from fhir_mapping.terminology import note_phrases
from knowledge_index import KnowledgeIndex
from risk_model.core.values import Experiencer, Polarity, Temporality
from risk_model.llm_tuning.examples import LabelledFinding, ReaderExample, Stated

PARTS = ("train", "validation", "test")
STATUSES: Mapping[str, tuple[Polarity, Temporality, Experiencer]] = {
    "present": (Polarity.PRESENT, Temporality.CURRENT, Experiencer.PATIENT),
    "absent": (Polarity.ABSENT, Temporality.CURRENT, Experiencer.PATIENT),
    "family": (Polarity.PRESENT, Temporality.CURRENT, Experiencer.FAMILY),
    "past": (Polarity.PRESENT, Temporality.HISTORICAL, Experiencer.PATIENT),
    "planned": (Polarity.PRESENT, Temporality.HYPOTHETICAL, Experiencer.PATIENT),
}
_KINDS = ("present", "absent", "family", "past", "planned", "value", "change", "aside", "filler")
_WEIGHTS = (6, 6, 3, 3, 1, 6, 2, 1, 2)
_SLOTS = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured concept as notes name it; drawn values lie in `low`..`high` of its unit, with so many decimals."""

    concept: str
    names: tuple[str, ...]
    unit: str
    low: float
    high: float
    decimals: int


@dataclass(frozen=True, slots=True)
class Style:
    """The sentences of one writing style, by kind; see the table."""

    name: str
    part: str
    joint: str
    short: bool
    units: Mapping[str, str]
    sentences: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class StyleTable:
    findings: Mapping[str, tuple[str, ...]]
    """MeSH descriptor -> how notes call it, from the fullest to the shortest."""
    quantities: Mapping[str, Quantity]
    styles: tuple[Style, ...]

    def of_part(self, part: str) -> tuple[Style, ...]:
        return tuple(style for style in self.styles if style.part == part)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a record says, by MeSH descriptor; `others` are findings it does not have, for denials and relatives.

    `measured` gives each concept's values, oldest first, in the canonical unit. `called` names findings that the table
    does not.
    """

    present: tuple[str, ...]
    past: tuple[str, ...]
    others: tuple[str, ...]
    measured: Mapping[str, tuple[float, ...]]
    called: Mapping[str, tuple[str, ...]]


@cache
def table() -> StyleTable:
    """The shipped styles. Raises KeyError or ValueError where the file breaks its schema: a mistake of ours."""
    raw = yaml.safe_load(files("risk_model.tables").joinpath("note_styles.yaml").read_bytes())
    quantities = {name: _quantity(name, item) for name, item in raw["quantities"].items()}
    findings = {ui: tuple(names) for ui, names in raw["findings"].items()}
    return StyleTable(findings, quantities, tuple(_style(item) for item in raw["styles"]))


def _quantity(name: str, raw: Mapping[str, Any]) -> Quantity:
    low, high = raw["range"]
    return Quantity(name, tuple(raw["names"]), raw["unit"], float(low), float(high), int(raw["decimals"]))


def _style(raw: Mapping[str, Any]) -> Style:
    if raw["part"] not in PARTS:
        raise ValueError(f"{raw['name']}: part {raw['part']!r} is none of {', '.join(PARTS)}")
    sentences = {kind: tuple(raw[kind]) for kind in _KINDS}
    return Style(raw["name"], raw["part"], raw["joint"], raw.get("short", False), raw.get("units", {}), sentences)


def drawn(random: Random) -> Facts:
    """Returns the facts of a made-up patient."""
    names = list(table().findings)
    random.shuffle(names)
    measured = {
        concept: tuple(random.uniform(item.low, item.high) for _ in range(2))
        for concept, item in table().quantities.items()
    }
    return Facts(tuple(names[:8]), tuple(names[8:12]), tuple(names[12:]), measured, {})


def facts_of(record: PatientRecord, index: KnowledgeIndex) -> Facts:
    """The facts of a FHIR record: its conditions by MeSH descriptor, and its measurements that notes can name."""
    called: dict[str, tuple[str, ...]] = {}
    present: list[str] = []
    past: list[str] = []
    for condition in record.conditions:
        words = condition.text.partition(" (")[0].strip()
        linked = index.link_text(words)
        if len(linked) != 1 or not words:
            continue
        ui = linked[0].concept.ui
        called.setdefault(ui, table().findings.get(ui) or (words.lower(),))
        (present if condition.active else past).append(ui)
    gone = dict.fromkeys(ui for ui in past if ui not in present)
    others = tuple(ui for ui in table().findings if ui not in called)
    measured: dict[str, tuple[float, ...]] = {}
    for item in sorted(record.measurements, key=lambda item: item.time):
        if item.concept in table().quantities:
            measured[item.concept] = (*measured.get(item.concept, ()), item.value)
    return Facts(tuple(dict.fromkeys(present)), tuple(gone), others, measured, called)


def write(facts: Facts, style: Style, random: Random, names: Mapping[str, str]) -> ReaderExample:
    """A window of two to four sentences about the facts. `names` gives each descriptor's name, the answer's `name`."""
    writer = _Writer(facts, style, random, names)
    for kind in random.choices(_KINDS, _WEIGHTS, k=random.randint(2, 4)):
        writer.add(kind)
    return writer.example()


def written(
    facts: Iterable[Facts], styles: Sequence[Style], seed: int, names: Mapping[str, str], each: int
) -> list[ReaderExample]:
    """`each` examples of every record, the same for the same seed; no text appears twice."""
    found: dict[str, ReaderExample] = {}
    for place, known in enumerate(facts):
        random = Random(f"{seed}|{place}")  # noqa: S311 - the same notes every time is the point
        for _ in range(each):
            example = write(known, random.choice(styles), random, names)
            found.setdefault(example.text, example)
    return list(found.values())


class _Writer:
    def __init__(self, facts: Facts, style: Style, random: Random, names: Mapping[str, str]) -> None:
        self.facts, self.style, self.random, self.names = facts, style, random, names
        self.text = ""
        self.mentions: list[LabelledFinding] = []
        self.stated: list[Stated] = []
        self.used: set[str] = set()

    def add(self, kind: str) -> None:
        """One more sentence, if the record has anything to say in it."""
        sentence = self.random.choice(self.style.sentences[kind])
        if kind in STATUSES:
            self._findings(kind, sentence)
        elif kind in {"value", "change"}:
            self._value(sentence)
        else:
            self._begin()
            self.text += sentence

    def example(self) -> ReaderExample:
        end = "." if self.style.joint == ". " and self.text else ""
        return ReaderExample(self.text + end, tuple(self.mentions), tuple(self.stated), self.style.name)

    def _begin(self) -> None:
        self.text += self.style.joint if self.text else ""

    def _findings(self, kind: str, sentence: str) -> None:
        pool = {"present": self.facts.present, "past": self.facts.past}.get(kind, self.facts.others)
        slots = [slot for slot in _SLOTS if f"{{{slot}}}" in sentence]
        left = [ui for ui in pool if ui not in self.used]
        if len(left) < len(slots):
            return
        chosen = dict(zip(slots, self.random.sample(left, len(slots)), strict=True))
        self.used |= set(chosen.values())
        self._begin()
        for words, slot in _pieces(sentence, slots):
            self.text += words
            if slot:
                self._mention(chosen[slot], kind)

    def _mention(self, ui: str, kind: str) -> None:
        forms = self.facts.called.get(ui) or table().findings[ui]
        name = forms[-1] if self.style.short and self.random.random() < 0.7 else forms[0]
        if not self.text.rpartition("\n")[2].strip() or self.text.endswith(". "):
            name = name[0].upper() + name[1:]
        start = len(self.text)
        self.text += name
        self.mentions.append(LabelledFinding(name, start, ui, self.names[ui], *STATUSES[kind]))

    def _value(self, sentence: str) -> None:
        needed = 2 if "{old}" in sentence else 1
        left = [c for c, values in self.facts.measured.items() if len(values) >= needed and c not in self.used]
        if not left:
            return
        concept = self.random.choice(left)
        self.used.add(concept)
        quantity = table().quantities[concept]
        unit = self.style.units.get(concept, quantity.unit)
        values = self.facts.measured[concept]
        name = quantity.names[-1] if self.style.short else quantity.names[0]
        words = {"name": name, "unit": unit, "value": self._shown(quantity, unit, values[-1])}
        words["old"] = self._shown(quantity, unit, values[-2]) if needed == 2 else ""
        self._begin()
        start = len(self.text)
        said = " ".join(sentence.format(**words).split()).replace(" )", ")").replace(" ,", ",")
        self.text += said
        for slot in ("old", "value") if needed == 2 else ("value",):
            self._state(quantity, unit, start, sentence, slot, words)

    def _state(
        self, quantity: Quantity, unit: str, start: int, sentence: str, slot: str, words: Mapping[str, str]
    ) -> None:
        """Anchored at the quantity's name and this number, wherever the sentence puts them."""
        place = self.text.index(words["name"], start)
        first, second = sorted(("old", "value"), key=lambda s: sentence.find(f"{{{s}}}"))
        at = self.text.index(words[slot], place + len(words["name"]))
        if slot == second and words[first]:
            at = self.text.index(words[slot], self.text.index(words[first], place + len(words["name"])) + 1)
        end = at + len(words[slot])
        beside = self.text[end:].lstrip()[: len(unit)] == unit and unit
        if beside:
            end = self.text.index(unit, end) + len(unit)
        number = float(words[slot])
        canonical = note_phrases().concepts[quantity.concept].definition.convert(number, unit or quantity.unit)
        value = number if canonical is None else canonical
        self.stated.append(Stated(self.text[place:end], place, quantity.concept, number, unit if beside else "", value))

    def _shown(self, quantity: Quantity, unit: str, value: float) -> str:
        definition = note_phrases().concepts[quantity.concept].definition
        factor, offset = definition.conversions.get(unit, (1.0, 0.0)) if unit and unit != quantity.unit else (1.0, 0.0)
        decimals = quantity.decimals if factor == 1.0 else 0 if value / factor > 30 else 1
        return f"{(value - offset) / factor:.{decimals}f}"


def _pieces(sentence: str, slots: Sequence[str]) -> Iterable[tuple[str, str | None]]:
    """(words, the slot after them) in order; the last without a slot."""
    left = sentence
    for slot in slots:
        words, _, left = left.partition(f"{{{slot}}}")
        yield words, slot
    yield left, None
