"""Derives `definitions/snomed_icd10.tsv` from two published disease ontologies; run by hand for a new release of them.

    python -m tools.derive_snomed_map DOID_XREFS DOID_SUBCLASSES MONDO_MAPPINGS_FOLDER

DOID_XREFS is the Human Disease Ontology's report of all cross-references (id, label, xref; CC0 1.0), DOID_SUBCLASSES
its report of classes and their superclasses, MONDO_MAPPINGS_FOLDER the SSSOM mapping sets of the Mondo Disease Ontology
(CC0 1.0). Only facts are kept: a SNOMED CT identifier, the ICD-10 code of the same disease, and whether the code is of
the disease itself (`=`) or only of a broader one (`<`) that proves a group.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fhir_mapping.core.values import Coding
from fhir_mapping.terminology.codes import ICD10
from fhir_mapping.terminology.diagnosis_tables import Scheme, diagnosis_groups, groups_holding

OUT = Path(__file__).parents[1] / "fhir_mapping" / "definitions" / "snomed_icd10.tsv"
_ICD10 = re.compile(r"[A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?\Z")
# C80 (malignant neoplasm without a site) is in the groups of metastatic cancer, which a cancer of unnamed site is not.
_UNSPECIFIC = ("C80",)
# "Neoplasm of (a site)" in SNOMED CT, which the ontologies give to the cancer of that site.
_NEOPLASM = re.compile(r"126[4-9]\d{5}\Z")
_MALIGNANT = re.compile(r"cancer|carcinoma|sarcoma|lymphoma|leuk|melanoma|myeloma|blastoma|malignan", re.IGNORECASE)
_CATEGORY = 3  # characters
Table = dict[str, set[str]]


def main(arguments: list[str]) -> None:
    xrefs, subclasses, mappings = map(Path, arguments)
    snomed, icd, labels = _doid(xrefs)
    to_mondo = _mondo(mappings / "mondo_exactmatch_sctid.sssom.tsv", "SCTID:")
    mondo_doid = _mondo(mappings / "mondo_exactmatch_doid.sssom.tsv", "")
    for mondo, codes in to_mondo.items():
        snomed[mondo] |= codes
    for name in ("mondo_exactmatch_icd10cm.sssom.tsv", "mondo_exactmatch_icd10who.sssom.tsv"):
        for mondo, codes in _mondo(mappings / name, "").items():
            icd[mondo] |= {code.partition(":")[2] for code in codes}
    exact: Table = defaultdict(set)
    broader: Table = defaultdict(set)
    parents = _parents(subclasses)
    for disease, identifiers in snomed.items():
        names = {disease, *mondo_doid.get(disease, ())}
        codes = _valid(code for name in names for code in icd.get(name, ()))
        above = _valid(code for name in _above(names, parents) for code in icd.get(name, ()))
        if not any(_MALIGNANT.search(labels.get(name, "")) for name in names):
            above = {code for code in above if not code.startswith("C")}
        for identifier in identifiers:
            solid = {code for code in codes | above if code.startswith("C") and _NEOPLASM.match(identifier)}
            exact[identifier] |= codes - solid
            broader[identifier] |= above - solid
    rows = [(int(i), code, "=") for i, codes in exact.items() for code in codes]
    rows += [
        (int(i), code, "<") for i, codes in broader.items() if not exact[i] for code in codes if _proves_a_group(code)
    ]
    OUT.write_text("".join(f"{i}\t{code}\t{relation}\n" for i, code, relation in sorted(rows)))
    sys.stdout.write(f"{sum(map(bool, exact.values()))} diseases with a code of their own, {len(rows)} rows\n")


def _proves_a_group(code: str) -> bool:
    coding = Coding(ICD10, code if len(code) > _CATEGORY else f"{code}.9")
    return bool(diagnosis_groups([coding])) or any(groups_holding(scheme, coding) for scheme in Scheme)


def _valid(codes: Iterable[str]) -> set[str]:
    return {code for code in codes if _ICD10.match(code) and not code.startswith(_UNSPECIFIC)}


def _doid(path: Path) -> tuple[Table, Table, dict[str, str]]:
    """Returns the SNOMED CT identifiers, ICD-10 codes and labels of the diseases of the Human Disease Ontology."""
    labels: dict[str, str] = {}
    snomed: Table = defaultdict(set)
    icd: Table = defaultdict(set)
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            labels[row["id"]] = row["label"]
            vocabulary, _, code = row["xref"].partition(":")
            if vocabulary.startswith("SNOMEDCT") and code.isdigit():
                snomed[row["id"]].add(code)
            elif vocabulary in {"ICD10CM", "ICD10"}:
                icd[row["id"]].add(code)
    return snomed, icd, labels


def _mondo(path: Path, prefix: str) -> Table:
    """Returns the objects of each subject of an SSSOM mapping set, without `prefix`."""
    found: Table = defaultdict(set)
    with path.open(newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        for row in csv.DictReader(lines, delimiter="\t"):
            found[row["subject_id"]].add(row["object_id"].removeprefix(prefix))
    return found


def _parents(path: Path) -> Table:
    found: Table = defaultdict(set)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["baseClass"]].add(row["superClass"])
    return found


def _above(names: Iterable[str], parents: Mapping[str, set[str]]) -> Iterator[str]:
    seen: set[str] = set()
    waiting = [parent for name in names for parent in parents.get(name, ())]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            waiting.extend(parents.get(name, ()))


if __name__ == "__main__":
    main(sys.argv[1:])
