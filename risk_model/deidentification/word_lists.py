"""What a word with a capital is taken for: a name, a word, or neither in any list (`risk_model/tables`)."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from importlib.resources import files

_SUFFIX = re.compile(r"['\u2019]s$")
_ENDINGS = ("s", "es", "ed", "ing", "ly", "d", "er", "al", "ally", "ness", "ic", "y")
# What ends so is medicine: `Anesthesiologist`, `Thoracentesis`.
_MEDICAL = re.compile(r".{2,}(?:olog(?:ist|y|ical)|itis|ectomy|emia|aemia|uria|pathy|oscop(?:y|ic)|plasty|graph(?:y|ic)|algia|osis|otomy|ostomy"
                      r"|gram|centesis|plegia|paresis|pnea|cardia|philia|penia|megaly|rrhea|lysis|sclerosis|mycin|cillin|azole|pril|sartan|statin"
                      r"|olol|mab|nib|gliptin|flozin|tide|parin|xaban|platin|prazole|dipine|vir|floxacin|cycline|sone|lone|barbital|azepam"
                      r"|oxetine|triptan|setron|caine|phylline|profen|azine)s?\Z")  # fmt: skip
_PREFIXES = ("non", "un", "re", "pre", "post", "sub", "hyper", "hypo", "anti", "over", "under", "inter", "intra", "peri", "micro",
             "macro", "neuro", "cardio", "broncho", "gastro", "tele", "bio", "trans", "multi", "semi", "out", "ultra", "electro")  # fmt: skip


class Kind(Enum):
    """What a word with a capital is taken for."""

    NAME = auto()
    AMBIGUOUS = auto()
    UNKNOWN = auto()
    ORDINARY = auto()


@dataclass(frozen=True, slots=True)
class WordLists:
    """The words of `risk_model/tables`: names, names that are words too, ordinary words, places."""

    names: frozenset[str]
    ambiguous: frozenset[str]
    notes: frozenset[str]
    facilities: frozenset[str]
    ordinary: frozenset[str]
    places: re.Pattern[str]

    def kind(self, word: str) -> Kind:
        """Returns what a word is taken for.

        >>> [lists().kind(word).name for word in ("Jennifer", "Brown", "Qvistgaard", "Pneumonia", "Ambulating")]
        ['NAME', 'AMBIGUOUS', 'UNKNOWN', 'ORDINARY', 'ORDINARY']
        """
        plain = _SUFFIX.sub("", word.replace("\u2019", "'")).lower()
        if plain in self.notes:
            return Kind.ORDINARY
        if plain in self.ambiguous:
            return Kind.AMBIGUOUS
        if plain in self.names:
            return Kind.NAME
        if re.match(r"o'[a-z]{3}|mc[a-z]{3}|fitz[a-z]{3}", plain):
            return Kind.NAME
        if self._is_ordinary(plain):
            return Kind.ORDINARY
        parts = re.split(r"[-']", plain)
        if len(parts) > 1:
            kinds = {self.kind(part) for part in parts if len(part) > 1}
            return next((k for k in (Kind.NAME, Kind.UNKNOWN, Kind.AMBIGUOUS) if k in kinds), Kind.ORDINARY)
        return Kind.UNKNOWN

    def _is_ordinary(self, word: str) -> bool:
        if word in self.ordinary or len(word) < 2 or _MEDICAL.fullmatch(word):
            return True
        for ending in _ENDINGS:
            stem = word.removesuffix(ending)
            # A short stem proves little: `Jamal` is no word of jam.
            if stem != word and len(stem) > (2 if ending in _ENDINGS[:5] else 4) and (
                stem in self.ordinary or f"{stem}e" in self.ordinary or f"{stem}ion" in self.ordinary or f"{stem}ory" in self.ordinary or f"{stem}y" in self.ordinary
                or (stem[-1] == stem[-2] and stem[:-1] in self.ordinary) or (stem[-1] == "i" and f"{stem[:-1]}y" in self.ordinary)
            ):  # fmt: skip
                return True
        return any(word.startswith(p) and len(word) > len(p) + 3 and word[len(p) :] in self.ordinary for p in _PREFIXES)


@cache
def lists() -> WordLists:
    """Returns the lists, read once."""
    tables = files("risk_model.tables")
    sections: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in tables.joinpath("person_names.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            current.update(line.split())
    lines = [
        line for line in tables.joinpath("place_names.txt").read_text("utf-8").splitlines() if line[:1] not in "#["
    ]
    ordinary = gzip.decompress(tables.joinpath("ordinary_words.txt.gz").read_bytes()).decode().split()
    cities = sorted({name for line in lines for name in line.split("/") if name}, key=lambda name: -len(name))
    places = re.compile(rf"\b(?:{'|'.join(re.escape(name).replace(chr(92) + ' ', ' +') for name in cities)})\b", re.I)
    return WordLists(
        names=frozenset(sections["names"]),
        ambiguous=frozenset(sections["words"]),
        notes=frozenset(sections["notes"]),
        facilities=frozenset(sections["facilities"]),
        ordinary=frozenset(ordinary),
        places=places,
    )
