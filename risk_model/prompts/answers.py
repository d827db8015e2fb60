"""What a language model answers: one JSON object, the same for every backend, as schema, grammar, text and values.

    {"findings": [{"quote", "name", "polarity", "temporality", "experiencer"}],
     "values": [{"quote", "concept", "value", "unit"}], "cited": [1], "rationale": "...", "risk": "high"}

Quotes come first: the model copies, then classifies. `rationale` and `risk` are there only where a risk was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from fhir_mapping.terminology import note_phrases
from risk_model.core.errors import AnswerError
from risk_model.core.values import Experiencer, Polarity, Temporality

RISK_LEVELS = ("low", "moderate", "high")
MAX_FINDINGS = 8
MAX_VALUES = 8
MAX_QUOTE = 60
MAX_NAME = 60
MAX_UNIT = 12
MAX_RATIONALE = 240
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_NUMBER = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d{1,6}(?:\.\d{1,4})?)")
_JUDGEMENTS: tuple[tuple[str, type[StrEnum]], ...] = (
    ("polarity", Polarity), ("temporality", Temporality), ("experiencer", Experiencer),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnswerFinding:
    """A finding as the model says it; nothing of it is checked yet."""

    quote: str
    name: str
    polarity: Polarity = Polarity.PRESENT
    temporality: Temporality = Temporality.CURRENT
    experiencer: Experiencer = Experiencer.PATIENT


@dataclass(frozen=True, slots=True)
class AnswerValue:
    """A value as the model says it: the number and unit as they are written in the note."""

    quote: str
    concept: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ReaderAnswer:
    """One answer about one window. `risk` is one of RISK_LEVELS where it was asked for."""

    findings: tuple[AnswerFinding, ...] = ()
    values: tuple[AnswerValue, ...] = ()
    cited: tuple[int, ...] = ()
    rationale: str = ""
    risk: str | None = None

    def to_text(self) -> str:
        """As the grammar writes it: what a model is trained to say.

        >>> ReaderAnswer((AnswerFinding("no fever", "Fever", Polarity.ABSENT),)).to_text()[:48]
        '{"findings":[{"quote":"no fever","name":"Fever",'
        """
        document = asdict(self)
        for value in document["values"]:
            value["value"] = int(value["value"]) if value["value"] == int(value["value"]) else value["value"]
        if self.risk is None:
            del document["rationale"], document["risk"]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> ReaderAnswer:
        """Raises AnswerError where it is not the answer's JSON: it is an error, never an empty answer."""
        try:
            return _answer(json.loads(text, parse_constant=_no_number))
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise AnswerError(error.__class__.__name__) from None


def complete_json(text: str) -> str:
    """The JSON of an answer that was cut, up to its last whole item; the same text where nothing is missing.

    >>> complete_json('{"findings":[{"quote":"no fever","name":"Fever"},{"quote":"no co')
    '{"findings":[{"quote":"no fever","name":"Fever"}],"values":[],"cited":[]}'
    """
    if text.rstrip().endswith("}") and _is_json(text):
        return text
    for stop in reversed([match.end() for match in re.finditer(r"[}\[]", text)]):
        begun = text[:stop]
        rest = '],"cited":[]}' if '"values":[' in begun else '],"values":[],"cited":[]}'
        rest = "]}" if '"cited":[' in begun else rest
        if _is_json(begun + rest):
            return begun + rest
    return text


def schema(passages: int, with_risk: bool) -> dict[str, Any]:
    """JSON schema (2020-12) of an answer about a window shown with that many passages."""
    finding = {"quote": _text(MAX_QUOTE, 1), "name": _text(MAX_NAME, 1)} | {
        name: {"enum": [str(word) for word in words]} for name, words in _JUDGEMENTS
    }
    value = {
        "quote": _text(MAX_QUOTE, 1),
        "concept": {"enum": list(note_phrases().concepts)},
        "value": {"type": "number"},
        "unit": _text(MAX_UNIT, 0),
    }
    numbered = {"type": "integer", "minimum": 1, "maximum": max(1, passages)}
    properties: dict[str, Any] = {
        "findings": {"type": "array", "items": _object(finding), "maxItems": MAX_FINDINGS},
        "values": {"type": "array", "items": _object(value), "maxItems": MAX_VALUES},
        "cited": {"type": "array", "items": numbered, "maxItems": passages},
    }
    if with_risk:
        properties |= {"rationale": _text(MAX_RATIONALE, 0), "risk": {"enum": list(RISK_LEVELS)}}
    return _object(properties)


def grammar(shown: str, passages: int, with_risk: bool) -> str:
    """The schema as a Lark grammar of llguidance in which a quote is words of `shown` and a number one of its own."""
    pieces = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces_of(shown)]
    numbers = numbers_in(shown)
    values = f'("{{" value "}}" ("," "{{" value "}}"){{0,{MAX_VALUES - 1}}})?' if numbers else ""
    parts = [
        '"{\\"findings\\":["', f'(finding ("," finding){{0,{MAX_FINDINGS - 1}}})?',
        '"],\\"values\\":["', values, '"],\\"cited\\":["', '(CITED ("," CITED)?)?' if passages else "", '"]"',
        '",\\"rationale\\":\\"" RATIONALE "\\",\\"risk\\":\\"" RISK "\\""' if with_risk else "", '"}"',
    ]  # fmt: skip
    context = " ".join(f'"\\",\\"{name}\\":\\"" {name.upper()}' for name, _ in _JUDGEMENTS)
    rules = [
        f"start: {' '.join(filter(None, parts))}",
        f'finding: "{{\\"quote\\":\\"" MENTION "\\",\\"name\\":\\"" NAME {context} "\\"}}"',
        f"MENTION: WORDS & /(?s:[A-Za-z].{{1,{MAX_QUOTE - 1}}})/",
        f"WORDS: %regex {json.dumps({'substring_chunks': pieces})}",
        f"NAME: /[A-Za-z][A-Za-z0-9 ,'()\\/-]{{2,{MAX_NAME - 1}}}/",
        *(f"{name.upper()}: {one_of(words)}" for name, words in _JUDGEMENTS),
    ]
    if numbers:
        value = '"\\"quote\\":\\"" QUOTE "\\",\\"concept\\":\\"" CONCEPT "\\",\\"value\\":" NUMBER'
        rules += [
            f"QUOTE: WORDS & /(?s:[^ ].{{0,{MAX_QUOTE - 1}}})/",
            f'value: {value} ",\\"unit\\":\\"" UNIT "\\""',
            f"CONCEPT: {one_of(note_phrases().concepts)}",
            f"NUMBER: {one_of(numbers)}",
            f"UNIT: /[A-Za-z0-9%\\/.*\\[\\]^µ°]{{0,{MAX_UNIT}}}/",
        ]
    if passages:
        rules.append(f"CITED: {one_of(map(str, range(1, passages + 1)))}")
    if with_risk:
        rules += [f'RATIONALE: /[^"\\\\\\x00-\\x1f<>]{{0,{MAX_RATIONALE}}}/', f"RISK: {one_of(RISK_LEVELS)}"]
    return "\n".join(["%llguidance {}", *rules])


def pieces_of(text: str) -> list[str]:
    """Words, spaces and signs of a text: what a quote is made of."""
    return _PIECE.findall(text)


def numbers_in(text: str) -> list[str]:
    """The numbers of a text as JSON can write them, each also in its shortest form.

    >>> numbers_in("BP 120/80, platelets 12,000, Cr 1.20 at 06:30; H2O")
    ['1.2', '1.20', '120', '12000', '30', '6', '80']
    """
    written = {match.replace(",", "") for match in _NUMBER.findall(text)}
    valid = {number for number in written if not re.match(r"0\d", number)}
    return sorted(valid | {f"{float(number):.10g}" for number in written})


def _answer(document: Mapping[str, Any]) -> ReaderAnswer:
    findings = [
        AnswerFinding(_said(item, "quote"), _said(item, "name"), *(kind(item[name]) for name, kind in _JUDGEMENTS))  # type: ignore[arg-type]
        for item in document["findings"]
    ]
    values = [
        AnswerValue(_said(item, "quote"), _said(item, "concept"), _number(item["value"]), _said(item, "unit"))
        for item in document["values"]
    ]
    cited = tuple(int(number) for number in document["cited"] if isinstance(number, int))
    risk = document.get("risk")
    if risk is not None and risk not in RISK_LEVELS:
        raise ValueError("risk")
    rationale = document.get("rationale", "")
    if not isinstance(rationale, str) or len(findings) > MAX_FINDINGS or len(values) > MAX_VALUES:
        raise ValueError("too much")
    return ReaderAnswer(tuple(findings), tuple(values), cited, rationale[:MAX_RATIONALE], risk)


def _said(item: Mapping[str, Any], name: str) -> str:
    text = item[name]
    if not isinstance(text, str):
        raise TypeError(name)
    return text


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        raise TypeError("value")
    return float(value)


def _no_number(word: str) -> float:
    raise ValueError(word)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(most: int, least: int) -> dict[str, Any]:
    return {"type": "string", "minLength": least, "maxLength": most}


@cache
def _joined(words: tuple[str, ...]) -> str:
    return " | ".join(json.dumps(word) for word in words)


def one_of(words: Iterable[str]) -> str:
    """Alternatives of a grammar."""
    return _joined(tuple(words))
