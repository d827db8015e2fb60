"""Extracts statements (subject, relation, object) with a language model and validates each of them.

This package contains no model and no network client: the caller passes `Ask`. The model sees numbered sentences and the
concepts found in them, and answers a JSON list. A statement is kept where the sentence exists, subject and object occur
in it verbatim and are concepts the linker finds there unnegated, and the relation is one of `RELATION_WORDS`; all
others are dropped and counted. Answers are cached by the hash of model and question: a resumed build repeats none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from artifact_store import CacheError, ContentCache, content_key
from knowledge_index.core.errors import SourceError
from knowledge_index.core.values import Article, LinkedConcept, Triple
from knowledge_index.vocabulary.linker import Linker

RELATION_WORDS = ("induces", "prevents", "treats", "decreases", "increases", "predicts", "is associated with")
"""The relations for which the graph has phrases in both directions."""
_SYSTEM = (
    "You read abstracts of medical articles. List what they state about pairs of the given concepts, as JSON: "
    '[{"sentence": 1, "subject": "...", "relation": "...", "object": "..."}]. Subject and object are concepts of that '
    "sentence, copied exactly. Relation is one of: " + ", ".join(RELATION_WORDS) + ". Only what is stated, "
    "nothing that is denied, asked or planned. If nothing is stated, answer []."
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(])|\n+")
_LIST = re.compile(r"\[.*\]", re.DOTALL)
_MOST_SENTENCES = 40
_GIVE_UP = 5
_MOST_ANSWERS = 5_000_000


@dataclass(frozen=True, slots=True)
class TripleQuestion:
    """The prompt for one article.

    `grammar` (llguidance's Lark) constrains decoding to the given sentences, relations and concepts. `schema` (JSON
    schema) is for servers, which require an object: the list is its only member. A backend may ignore both; answers are
    validated in any case.
    """

    system: str
    user: str
    grammar: str
    schema: Mapping[str, Any]


Ask = Callable[[TripleQuestion], str]
"""Answers a question with text. Raises `SourceError` where there is no answer."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    """One sentence, and its unnegated mentions: text -> descriptor id."""

    text: str
    concepts: dict[str, str]


class ModelTripleExtractor:
    """ModelTripleExtractor(linker, ask, "smollm2 1f3a", folder).extract(article) -> triples

    `model` identifies the model and its weights and is part of the cache key. `counts` holds the numbers of kept and
    dropped statements by reason. An article without an answer is skipped and counted; after five in a row the last
    `SourceError` is raised, since an unreachable server would otherwise give an empty graph. Raises it too where
    `cache` holds a file that is no cache.
    """

    def __init__(self, linker: Linker, ask: Ask, model: str, cache: Path, counts: Counter[str] | None = None) -> None:
        self._linker, self._ask, self._model = linker, ask, model
        try:
            self._cache = ContentCache(cache / "answers.sqlite", _MOST_ANSWERS)
        except CacheError as error:
            raise SourceError(str(error)) from None
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._failed = 0

    def extract(self, article: Article) -> Iterator[Triple]:
        sentences = self._sentences(article)
        if not any(len(set(sentence.concepts.values())) > 1 for sentence in sentences):
            self.counts["articles without two concepts in a sentence"] += 1
            return
        answer = self._answer(_question(sentences))
        if answer is None:
            return
        seen: set[Triple] = set()
        for item in self._listed(answer):
            triple, problem = _checked(item, sentences, article.pmid)
            self.counts[problem or "kept"] += triple not in seen
            if triple is not None and triple not in seen:
                seen.add(triple)
                yield triple

    def _sentences(self, article: Article) -> list[_Sentence]:
        texts = [" ".join(text.split()) for text in _SENTENCE_END.split(article.text) if text.strip()]
        return [_Sentence(text, _named(self._linker.link_text(text))) for text in texts[:_MOST_SENTENCES]]

    def _answer(self, question: TripleQuestion) -> str | None:
        """The answer from the cache or from the model. Failures are not cached."""
        key = content_key(self._model, question.system, question.user)
        try:
            known = self._cache.get([key])
        except CacheError as error:
            raise SourceError(str(error)) from None
        if known:
            self.counts["answers known from before"] += 1
            return known[key].decode()
        try:
            answer = self._ask(question)
        except SourceError:
            self.counts["articles without an answer"] += 1
            self._failed += 1
            if self._failed >= _GIVE_UP:
                raise
            return None
        self._failed = 0
        self.counts["answers"] += 1
        self._cache.put({key: answer.encode("utf-8", "replace")})
        return answer

    def _listed(self, answer: str) -> list[Any]:
        """The statements of an answer, ignoring surrounding text; of a truncated answer, the complete ones."""
        found = _LIST.search(answer)
        for text in (found.group() if found else "", f"{answer[answer.find('[') :].rpartition('}')[0]}}}]"):
            try:
                items = orjson.loads(text)
            except orjson.JSONDecodeError:
                continue
            return items if isinstance(items, list) else []
        self.counts["answers that are no list"] += 1
        return []


def _named(linked: Sequence[LinkedConcept]) -> dict[str, str]:
    return {item.mention: item.concept.ui for item in linked if not item.negated}


def _checked(item: Any, sentences: Sequence[_Sentence], pmid: str) -> tuple[Triple | None, str]:
    """(statement, "") or (None, reason)."""
    if not isinstance(item, dict):
        return None, "dropped: no object with sentence, subject, relation and object"
    number, relation = item.get("sentence"), item.get("relation")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= len(sentences):
        return None, "dropped: no such sentence"
    if relation not in RELATION_WORDS:
        return None, "dropped: no such relation"
    sentence = sentences[number - 1]
    ends = [str(item.get(end, "")).strip() for end in ("subject", "object")]
    if not all(end and end in sentence.text for end in ends):
        return None, "dropped: not the sentence's own words"
    subject, object_ = (sentence.concepts.get(end) for end in ends)
    if subject is None or object_ is None:
        return None, "dropped: not a concept, or negated"
    if subject == object_:
        return None, "dropped: a concept with itself"
    return Triple(subject, str(relation), object_, pmid), ""


def _question(sentences: Sequence[_Sentence]) -> TripleQuestion:
    """The prompt: all sentences for context, with the concepts of those that name at least two."""
    lines = [f"{number}. {sentence.text}" for number, sentence in enumerate(sentences, 1)]
    named = {number: s.concepts for number, s in enumerate(sentences, 1) if len(set(s.concepts.values())) > 1}
    lines += ["", "Concepts:", *(f"{number}: {'; '.join(concepts)}" for number, concepts in named.items())]
    return TripleQuestion(_SYSTEM, "\n".join(lines), _grammar(named), _schema(named))


def _schema(named: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    names = {"enum": sorted({name for concepts in named.values() for name in concepts})}
    members = {
        "sentence": {"enum": sorted(named)},
        "subject": names,
        "relation": {"enum": list(RELATION_WORDS)},
        "object": names,
    }
    statement = _object(members)
    return _object({"statements": {"type": "array", "items": statement}})


def _object(members: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _grammar(named: dict[int, dict[str, str]]) -> str:
    relations = " | ".join(_quoted(word) for word in RELATION_WORDS)
    rules = [
        "%llguidance {}",
        'start: "[]" | "[" statement (", " statement){0,5} "]"',
        "statement: " + " | ".join(f"statement_{number}" for number in named),
        f"relation: {relations}",
    ]
    for number, concepts in named.items():
        rules.append(f"name_{number}: " + " | ".join(map(_quoted, concepts)))
        rules.append(
            f'statement_{number}: "{{\\"sentence\\": {number}, \\"subject\\": " name_{number} ", \\"relation\\": " '
            f'relation ", \\"object\\": " name_{number} "}}"'
        )
    return "\n".join(rules)


def _quoted(words: str) -> str:
    """A Lark string whose text is the JSON string of these words."""
    return orjson.dumps(orjson.dumps(words).decode()).decode()
