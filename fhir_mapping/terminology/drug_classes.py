"""Drug classes of medications: by ATC code, RxNorm ingredient or, marked as such, the ingredient in the drug's name.

A drug in any other system or in none is read by the ingredients that its displays and text name. If they name no
ingredient of a class, a drug coded in RxNorm, NDC or SNOMED CT is in no class, because those systems name ingredients;
the same holds for the other common ingredients listed. Any other name may be a brand, so its classes are unknown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from fhir_mapping.core.values import Coding
from fhir_mapping.terminology.codes import ATC, NDC, RXNORM
from fhir_mapping.terminology.definition_files import DefinitionField, check_fields, read_yaml

_FILE = "medication_classes.yaml"
_NAMED = frozenset({RXNORM, NDC})
_WORD = re.compile(r"[a-z]+")
_PRODUCT = re.compile(
    r"\((?:medicinal product|product|substance|clinical drug)[^)]*\)|\bproduct containing\b", re.IGNORECASE
)
_SHORTEST_STEM = 6
# Other languages end the same name otherwise: furosemid, furosemida, furosemidum.
_ENDING = re.compile(r"e\Z")
_FIELDS = (
    DefinitionField("label", str),
    DefinitionField("atc", list),
    DefinitionField("rxnorm", list),
    DefinitionField("words", list),
    DefinitionField("not_words", list, required=False),
    DefinitionField("continuous", bool, required=False),
)


class Basis(StrEnum):
    """What a drug class was derived from."""

    CODE = "code"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class DrugClass:
    """A drug class with its ATC prefixes, RxNorm ingredients and drug names."""

    name: str
    label: str
    atc: tuple[str, ...]
    rxnorm: frozenset[str]
    words: frozenset[str]
    not_words: tuple[str, ...]
    """Prefixes of words that mean local use, such as on the skin or in the eye."""
    continuous: bool = False
    """Whether it is given by infusion, so that a dose that is over does not count."""

    def coded(self, coding: Coding) -> bool:
        """Whether a coding is in the class.

        >>> statin = drug_class_table()["statin"]
        >>> statin.coded(Coding(ATC, "C10AA05")), statin.coded(Coding(RXNORM, "83367"))
        (True, True)
        """
        if coding.system == ATC:
            return coding.code.upper().startswith(self.atc)
        return coding.system == RXNORM and coding.code in self.rxnorm

    def named(self, text: str) -> bool:
        """Whether a drug name is in the class, in English or with the endings of other languages.

        >>> drug_class_table()["corticosteroid"].named("hydrocortisone 1 % Topical Cream")
        False
        >>> drug_class_table()["loop_diuretic"].named("Furosemid 40 mg Tabletten")
        True
        >>> drug_class_table()["vasopressor"].named("Serotonin-Norepinephrine Reuptake Inhibitor")
        False
        """
        return self.has_ingredient(text) and not any(w.startswith(self.not_words) for w in _WORD.findall(_plain(text)))

    def has_ingredient(self, text: str) -> bool:
        """Whether a drug name has an ingredient of the class, even for local use."""
        return any(word in self.words or word.startswith(self.stems) for word in _WORD.findall(_plain(text)))

    @property
    def stems(self) -> tuple[str, ...]:
        """Ingredient names without their ending, where they are long enough not to begin another word."""
        return _stems(self.words)


@cache
def _stems(words: frozenset[str]) -> tuple[str, ...]:
    stems = (_ENDING.sub("", word) for word in words)
    return tuple(sorted({stem for stem in stems if len(stem) >= _SHORTEST_STEM}))


def _plain(text: str) -> str:
    """Returns lower-case text without accents."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))


@cache
def drug_class_table() -> Mapping[str, DrugClass]:
    """Returns the shipped drug classes by name."""
    raw = _definitions()["classes"]
    for key, parts in raw.items():
        check_fields(parts, _FIELDS, _FILE, f"classes.{key}")
    return {
        key: DrugClass(
            key, parts["label"], tuple(parts["atc"]), frozenset(parts["rxnorm"]), frozenset(parts["words"]),
            tuple(parts.get("not_words", ())), parts.get("continuous", False),
        )
        for key, parts in raw.items()
    }  # fmt: skip


@lru_cache(maxsize=4096)
def classes_of(codings: tuple[Coding, ...], text: str) -> Mapping[str, Basis] | None:
    """Returns the classes of a drug and what each was derived from; None if they are unknown.

    >>> lisinopril = Coding(RXNORM, "314076", "lisinopril 10 MG Oral Tablet")
    >>> classes_of((lisinopril,), "Lisinopril")
    {'ace_inhibitor': <Basis.NAME: 'name'>}
    >>> classes_of((), "Zestril 10") is None
    True
    """
    coded = {c.name: Basis.CODE for c in drug_class_table().values() if any(c.coded(coding) for coding in codings)}
    if coded or any(coding.system == ATC for coding in codings):
        return coded
    names = [coding.display for coding in codings if coding.display]
    of_ingredients = any(coding.system in _NAMED for coding in codings) or any(map(_PRODUCT.search, names))
    if any(character.isalpha() for character in text) and text not in names:
        names.append(text)
    found = {c.name: Basis.NAME for c in drug_class_table().values() if any(map(c.named, names))}
    of_ingredients = of_ingredients or any(map(_is_other_ingredient, names))
    return found if found or (of_ingredients and names) else None


def _is_other_ingredient(name: str) -> bool:
    """Whether a drug name shows that it is in no class, for example because it is for local use."""
    if any(c.has_ingredient(name) for c in drug_class_table().values()):
        return True
    return not _other_ingredients().isdisjoint(_WORD.findall(_plain(name)))


@cache
def _other_ingredients() -> frozenset[str]:
    return frozenset(_definitions()["other_ingredients"])


@cache
def _definitions() -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_yaml(files("fhir_mapping.definitions").joinpath(_FILE).read_bytes(), _FILE)
    return found
