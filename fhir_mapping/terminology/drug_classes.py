"""Drug classes of medications: by ATC code, RxNorm ingredient or, marked as such, the drug's name.

A name is used only if the drug is coded in RxNorm or NDC, which have too many codes of packs and strengths for a table;
then the words of the display decide. The class of a drug coded in none of the three is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files

from fhir_mapping.core.values import Coding, Medication
from fhir_mapping.terminology.codes import ATC, NDC, RXNORM
from fhir_mapping.terminology.definition_files import DefinitionField, check_fields, read_yaml

_NAMED = frozenset({RXNORM, NDC})
_WORD = re.compile(r"[a-z]+")
_FIELDS = (
    DefinitionField("label", str),
    DefinitionField("atc", list),
    DefinitionField("rxnorm", list),
    DefinitionField("words", list),
    DefinitionField("not_words", list, required=False),
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
        """Whether a drug name is in the class.

        >>> drug_class_table()["corticosteroid"].named("hydrocortisone 1 % Topical Cream")
        False
        """
        words = _WORD.findall(text.lower())
        return not self.words.isdisjoint(words) and not any(word.startswith(self.not_words) for word in words)


@cache
def drug_class_table() -> Mapping[str, DrugClass]:
    """Returns the shipped drug classes by name."""
    name = "medication_classes.yaml"
    raw = read_yaml(files("fhir_mapping.definitions").joinpath(name).read_bytes(), name)["classes"]
    for key, parts in raw.items():
        check_fields(parts, _FIELDS, name, f"classes.{key}")
    return {
        key: DrugClass(
            key, parts["label"], tuple(parts["atc"]), frozenset(parts["rxnorm"]), frozenset(parts["words"]),
            tuple(parts.get("not_words", ())),
        )
        for key, parts in raw.items()
    }  # fmt: skip


def classes_of(medication: Medication) -> Mapping[str, Basis] | None:
    """Returns the classes of a drug and what each was derived from; None if they are unknown.

    >>> lisinopril = Coding(RXNORM, "314076", "lisinopril 10 MG Oral Tablet")
    >>> classes_of(Medication("m", (lisinopril,), "Lisinopril", None, None, True))
    {'ace_inhibitor': <Basis.NAME: 'name'>}
    """
    return _classes_of(medication.codings, medication.text)


@lru_cache(maxsize=4096)
def _classes_of(codings: tuple[Coding, ...], text: str) -> dict[str, Basis] | None:
    coded = {c.name: Basis.CODE for c in drug_class_table().values() if any(c.coded(coding) for coding in codings)}
    if coded or any(coding.system == ATC for coding in codings):
        return coded
    if not any(coding.system in _NAMED for coding in codings):
        return None
    names = [coding.display for coding in codings if coding.system in _NAMED and coding.display]
    if not names and any(character.isalpha() for character in text):
        names = [text]
    return {c.name: Basis.NAME for c in drug_class_table().values() if any(map(c.named, names))} if names else None
