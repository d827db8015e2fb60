"""The triggers of `note_context.yaml` as patterns, by kind, for text with white space collapsed.

Each further language has a file of its own (`note_context.de.yaml`) with the kinds that it has triggers for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_NAMED = ("stated", "gone", "ago", "aged", "quality", "no_help", "tests")
_BEGIN = (
    "denied_before", "not_denied_before", "one_denied_before", "past_before", "planned_before", "uncertain_before",
    "relatives", "family_before", "begins",
)  # fmt: skip
_AT_ITS_PLACE = frozenset({
    "tells", "so_now", "patient_begins", "begins", "company", "answered", "planned_just_before", "no_finding_before",
})  # fmt: skip


LANGUAGES = ("en", "de")
"""Languages by ISO 639-1 code; the first has all kinds of triggers."""
_NEVER = ["(?!)"]
_NO_ANSWER = ["(?P<no>(?!))"]


@cache
def triggers(language: str = LANGUAGES[0]) -> Mapping[str, re.Pattern[str]]:
    """Returns kind -> pattern. `*_before` is searched in the words before a mention, `*_after` matched after its end.

    `turns` finds where a new part of a sentence begins, `patient_turns` where a part about the patient begins. Raises
    KeyError or re.error if the shipped table is invalid.
    """
    raw = _read(LANGUAGES[0])
    if language != LANGUAGES[0]:
        own = _read(language)
        absent = {kind: "(?!)" if kind in _NAMED else _NO_ANSWER if kind == "answered" else _NEVER for kind in raw}
        raw = absent | own
    named = {name.upper(): raw[name] for name in _NAMED} | {"RELATIVES": _either(raw["relatives"])}
    listed = {kind: _either(lines) for kind, lines in raw.items() if kind not in _NAMED}
    whole = {
        kind: lines if kind.endswith("_after") or kind in _AT_ITS_PLACE else rf"(?<!\w){lines}(?!\w)"
        for kind, lines in listed.items()
    }
    begin = _either(rf"(?<!\w){listed[kind]}(?!\w)" for kind in _BEGIN)
    whole["turns"] = rf"(?:,|/|\band) ?(?=[+-]\w|{begin})"
    whole["patient_turns"] = rf"(?:,|\band) ?(?={listed['patient_begins']})"
    return {kind: _compiled(pattern, named) for kind, pattern in whole.items()}


def _read(language: str) -> dict[str, Any]:
    name = "note_context.yaml" if language == LANGUAGES[0] else f"note_context.{language}.yaml"
    read: dict[str, Any] = yaml.safe_load(files("knowledge_index.context").joinpath(name).read_bytes())
    return read


def _either(lines: Iterable[str]) -> str:
    return "(?:" + "|".join(lines) + ")"


def _compiled(pattern: str, named: Mapping[str, str]) -> re.Pattern[str]:
    for name, words in named.items():
        pattern = pattern.replace(name, words)
    return re.compile(pattern, re.I)
