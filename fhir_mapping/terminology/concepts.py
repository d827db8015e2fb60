"""The concepts read from Observations, as defined in `concepts.yaml`, which is checked and loaded once per process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from fhir_mapping.terminology.codes import LOINC, SNOMED
from fhir_mapping.terminology.definition_files import DefinitionError, DefinitionField, check_fields, read_yaml

__all__ = ["ConceptDefinition", "DefinitionError", "Definitions", "Specimen", "definitions", "parse"]

GROUPS = ("vital sign", "laboratory")
AGGREGATES = ("last", "first", "min", "max", "mean", "slope", "count")
Conversion = tuple[float, float]
_ANNOTATION = re.compile(r"\{[^}]*\}")
_FIELDS = (
    DefinitionField("label", str),
    DefinitionField("group", str, one_of=GROUPS),
    DefinitionField("unit", str),
    DefinitionField("range", list),
    DefinitionField("loinc", list),
    DefinitionField("snomed", list, required=False),
    DefinitionField("other_words", list, required=False),
    DefinitionField("specimen", str, required=False, one_of=("blood", "arterial", "urine")),
    DefinitionField("from", dict, required=False),
    DefinitionField("molar_mass", float, required=False),
    DefinitionField("charge", int, required=False),
    DefinitionField("loinc_units", dict, required=False),
    DefinitionField("unitless", bool, required=False),
    DefinitionField("peripheral", bool, required=False),
    DefinitionField("reference_method", list, required=False),
)
_PANEL = (DefinitionField("loinc", list), DefinitionField("snomed", list), DefinitionField("concepts", list))
_HEAD = (
    DefinitionField("aggregates", list),
    DefinitionField("windows", dict),
    DefinitionField("neighbours", list),
    DefinitionField("companions", list, required=False),
    DefinitionField("panels", list, required=False),
    DefinitionField("specimens", dict),
    DefinitionField("central_sites", list, required=False),
    DefinitionField("units", dict),
    DefinitionField("concepts", dict),
)


@dataclass(frozen=True, slots=True)
class ConceptDefinition:
    """One concept: canonical UCUM `unit`, plausible range `low`..`high` and conversions (factor, offset) to it."""

    name: str
    label: str
    group: str
    unit: str
    low: float
    high: float
    loinc: tuple[str, ...]
    conversions: Mapping[str, Conversion]
    unitless: bool = False
    specimen: str | None = None
    loinc_units: Mapping[str, Mapping[str, Conversion]] | None = None
    reference_method: frozenset[str] = frozenset()
    """LOINC codes of the reference method, whose values take precedence at the same time."""
    snomed: tuple[str, ...] = ()
    peripheral: bool = False
    """Whether it is measured in the arteries of the limbs: a central body site is refused."""
    _other: re.Pattern[str] | None = None

    def is_other(self, words: str) -> bool:
        """Whether words beside the code (display, text, body site) make the value another quantity.

        >>> definitions().concepts["systolic_bp"].is_other("Pulmonary artery pressure")
        True
        """
        return self._other is not None and self._other.search(words) is not None

    def convert(self, value: float, unit: str, loinc: str | None = None) -> float | None:
        """Returns `value` in the canonical unit, or None if `unit` does not measure this concept."""
        special = (self.loinc_units or {}).get(loinc or "", {}).get(unit)
        if special is None and unit == self.unit:
            return value
        conversion = special or self.conversions.get(unit)
        return None if conversion is None else value * conversion[0] + conversion[1]


@dataclass(frozen=True, slots=True)
class Specimen:
    """A kind of specimen, recognised by its SNOMED CT and HL7 v2-0487 codes, else by words in its text."""

    name: str
    codes: frozenset[str]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definitions:
    """The content of `concepts.yaml`."""

    concepts: Mapping[str, ConceptDefinition]
    by_loinc: Mapping[str, ConceptDefinition]
    by_code: Mapping[tuple[str, str], ConceptDefinition]
    """(code system, code) of LOINC and SNOMED CT -> concept."""
    codes: frozenset[str]
    """Codes of concepts and panels in any system."""
    companions: frozenset[str]
    """LOINC codes of panels, which may stand beside the code of a member."""
    panels: Mapping[tuple[str, str], tuple[str, ...]]
    """(code system, code) of a panel -> names of the concepts it measures."""
    central_sites: frozenset[str]
    """SNOMED CT body structures in which a pressure is not that of the limbs' arteries."""
    neighbours: frozenset[str]
    """SNOMED CT codes of similar measurements, which must not be taken for the concept."""
    specimens: tuple[Specimen, ...]
    aggregates: tuple[str, ...]
    windows: Mapping[str, float]
    """Feature suffix -> hours before the prediction time."""
    _spellings: Mapping[str, str]
    _folded: Mapping[str, str]
    known_units: frozenset[str]

    def unit(self, text: str) -> str:
        """Returns the UCUM unit of a spelling; an unknown spelling is returned unchanged.

        >>> definitions().unit("K/uL"), definitions().unit("MMOL/L"), definitions().unit("furlong")
        ('10*3/uL', 'mmol/L', 'furlong')
        >>> definitions().unit("{scale}")
        '1'
        """
        known = self._spellings.get(text)
        if known is not None:
            return known
        stripped = text.strip()
        bare = _ANNOTATION.sub("", stripped)
        for spelling in (stripped, bare):
            found = self._spellings.get(spelling) or self._folded.get(_fold(spelling))
            if found is not None:
                return found
        # UCUM 1.9: an annotation does not change the unit, and alone it is the unit 1.
        return stripped if bare else "1"

    def specimen_of(self, words: str) -> str | None:
        """Returns the kind of specimen that words name, or None.

        >>> definitions().specimen_of("Sodium, urine"), definitions().specimen_of("Sodium")
        ('urine', None)
        """
        text = words.lower()
        return next((s.name for s in self.specimens if text and any(word in text for word in s.words)), None)

    def spellings_of(self, unit: str) -> tuple[str, ...]:
        """Returns every exact spelling of a UCUM unit, including the unit itself.

        >>> sorted(definitions().spellings_of("ng/L"))
        ['ng/L', 'ng/l']
        """
        return tuple(spelling for spelling, meant in self._spellings.items() if meant == unit)


def _fold(spelling: str) -> str:
    return "".join(spelling.lower().split())


@cache
def definitions() -> Definitions:
    """Returns the shipped definitions. Raises DefinitionError naming file, concept and field if they are invalid."""
    name = "concepts.yaml"
    return parse(read_yaml(files("fhir_mapping.definitions").joinpath(name).read_bytes(), name), name)


def parse(document: Any, file: str) -> Definitions:
    """Returns the definitions of a YAML document. Raises DefinitionError naming file and field.

    >>> parse({"aggregates": [], "windows": {}, "neighbours": [], "specimens": {}, "units": {},
    ...        "concepts": {"x": {"label": "X", "group": "laboratory", "range": [0, 1], "loinc": []}}}, "site.yaml")
    Traceback (most recent call last):
    fhir_mapping.terminology.definition_files.DefinitionError: site.yaml: concepts.x.unit: is missing
    """
    check_fields(document, _HEAD, file, "")
    unknown = [name for name in document["aggregates"] if name not in AGGREGATES]
    if unknown:
        raise DefinitionError(file, "aggregates", f"{unknown[0]!r} is none of {', '.join(AGGREGATES)}")
    concepts = {name: _concept(name, raw, file) for name, raw in document["concepts"].items()}
    by_loinc: dict[str, ConceptDefinition] = {}
    for concept in concepts.values():
        for code in concept.loinc:
            if code in by_loinc:
                raise DefinitionError(
                    file, f"concepts.{concept.name}.loinc", f"{code} already means {by_loinc[code].name}"
                )
            by_loinc[code] = concept
    by_code = {(LOINC, code): concept for code, concept in by_loinc.items()}
    for concept in concepts.values():
        for code in concept.snomed:
            if (SNOMED, code) in by_code:
                raise DefinitionError(file, f"concepts.{concept.name}.snomed", f"{code} already means another concept")
            by_code[(SNOMED, code)] = concept
    panels = dict(_panels(document.get("panels", ()), concepts, file))
    known = frozenset(unit for concept in concepts.values() for unit in (concept.unit, *concept.conversions))
    spellings, folded = _spellings(document["units"], known, file)
    return Definitions(
        concepts=concepts,
        by_loinc=by_loinc,
        by_code=by_code,
        codes=frozenset(code for _, code in (*by_code, *panels)),
        companions=frozenset(document.get("companions", ())),
        panels=panels,
        central_sites=frozenset(document.get("central_sites", ())),
        neighbours=frozenset(document["neighbours"]),
        specimens=tuple(_specimens(document["specimens"], file)),
        aggregates=tuple(document["aggregates"]),
        windows={str(suffix): float(hours) for suffix, hours in document["windows"].items()},
        _spellings=spellings,
        _folded=folded,
        known_units=known,
    )


def _spellings(units: Mapping[str, Any], known: frozenset[str], file: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns exact spellings, and those unambiguous without case and spaces (`G/L` and `g/L` are not)."""
    exact = {unit: unit for unit in (*known, *units)}
    for unit, found in units.items():
        for spelling in found:
            if exact.get(spelling, unit) != unit:
                raise DefinitionError(file, f"units.{unit}", f"{spelling!r} already means {exact[spelling]}")
            exact[spelling] = unit
    meanings: dict[str, set[str]] = {}
    for spelling, unit in exact.items():
        meanings.setdefault(_fold(spelling), set()).add(unit)
    return exact, {folded: next(iter(found)) for folded, found in meanings.items() if len(found) == 1}


def _panels(
    raw: Sequence[Any], concepts: Mapping[str, ConceptDefinition], file: str
) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    for number, panel in enumerate(raw):
        check_fields(panel, _PANEL, file, f"panels[{number}]")
        unknown = [name for name in panel["concepts"] if name not in concepts]
        if unknown:
            raise DefinitionError(file, f"panels[{number}].concepts", f"{unknown[0]!r} is not a concept")
        for system, codes in ((LOINC, panel["loinc"]), (SNOMED, panel["snomed"])):
            for code in codes:
                yield (system, code), tuple(panel["concepts"])


def _specimens(raw: Mapping[str, Any], file: str) -> Iterator[Specimen]:
    for name, parts in raw.items():
        check_fields(parts, (DefinitionField("codes", list), DefinitionField("words", list)), file, f"specimens.{name}")
        yield Specimen(name, frozenset(parts["codes"]), tuple(parts["words"]))


def _concept(name: str, raw: Any, file: str) -> ConceptDefinition:
    place = f"concepts.{name}"
    check_fields(raw, _FIELDS, file, place)
    bounds = raw["range"]
    if len(bounds) != 2 or not all(isinstance(b, int | float) for b in bounds) or not bounds[0] < bounds[1]:
        raise DefinitionError(file, f"{place}.range", "expected [low, high] with low below high")
    if not all(isinstance(code, str) for code in raw["loinc"]):
        raise DefinitionError(file, f"{place}.loinc", "codes must be text: put them in quotes")
    conversions = _chemical(raw, file, place) | _conversions(raw.get("from", {}), file, f"{place}.from")
    special = {
        code: _conversions(found, file, f"{place}.loinc_units.{code}")
        for code, found in raw.get("loinc_units", {}).items()
    }
    return ConceptDefinition(
        name=name,
        label=raw["label"],
        group=raw["group"],
        unit=raw["unit"],
        low=float(bounds[0]),
        high=float(bounds[1]),
        loinc=tuple(raw["loinc"]),
        conversions=conversions,
        unitless=raw.get("unitless", False),
        specimen=raw.get("specimen"),
        loinc_units=special or None,
        reference_method=_methods(raw.get("reference_method", []), raw["loinc"], file, f"{place}.reference_method"),
        snomed=tuple(raw.get("snomed", ())),
        peripheral=raw.get("peripheral", False),
        _other=_words(raw.get("other_words", ())),
    )


def _words(beginnings: Sequence[str]) -> re.Pattern[str] | None:
    listed = "|".join(re.escape(word) for word in beginnings)
    return re.compile(rf"\b(?:{listed})", re.IGNORECASE) if listed else None


def _methods(codes: list[str], loinc: list[str], file: str, place: str) -> frozenset[str]:
    if not set(codes) <= set(loinc):
        raise DefinitionError(file, place, "has a code that is not in loinc")
    return frozenset(codes)


def _conversions(raw: Any, file: str, place: str) -> dict[str, Conversion]:
    found: dict[str, Conversion] = {}
    if not isinstance(raw, dict):
        raise DefinitionError(file, place, "expected a mapping of unit to factor")
    for unit, step in raw.items():
        parts: list[Any] = step if isinstance(step, list) else [step, 0]
        if not unit or len(parts) != 2 or not all(isinstance(part, int | float) for part in parts) or not parts[0]:
            raise DefinitionError(file, f"{place}.{unit}", "expected a factor or [factor, offset]")
        found[str(unit)] = (float(parts[0]), float(parts[1]))
    return found


def _chemical(raw: Mapping[str, Any], file: str, place: str) -> dict[str, Conversion]:
    """Returns conversions between moles, mass and equivalents, for a concept in mg/dL or mmol/L.

    1 mmol/L is a tenth of the molar mass in mg/dL; 1 mmol/L of an ion with charge 2 is 2 meq/L.
    """
    mass, charge, unit = float(raw.get("molar_mass", 0)), int(raw.get("charge", 0)), raw["unit"]
    if not mass and not charge:
        return {}
    if mass < 0 or charge < 0 or unit not in {"mg/dL", "mmol/L"} or (unit == "mg/dL" and not mass):
        raise DefinitionError(file, f"{place}.molar_mass", "needs a unit of mg/dL or mmol/L, and a mass for mg/dL")
    per_mmol = mass / 10 if unit == "mg/dL" else 1.0
    found = {"mmol/L": (per_mmol, 0.0), "umol/L": (per_mmol / 1000, 0.0)} if mass else {}
    if unit == "mmol/L" and mass:
        found["mg/dL"] = (10 / mass, 0.0)
    if charge:
        found["meq/L"] = (per_mmol / charge, 0.0)
    found.pop(unit, None)
    return found
