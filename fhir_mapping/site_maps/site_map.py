"""Site maps: translate a site's own codes into standard ones on input, so that no other module sees a local code.

SiteMap.open(Path("site.yaml")).translate(resource). `docs/site-maps.md` shows the file; maps of ours for MIMIC-IV and
for NPU (the laboratory codes of the Nordic countries) always apply, because their codes can mean nothing else. A local
code is translated by its system and code, never guessed by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from artifact_store import DocumentError, read_document
from fhir_mapping.parsing.elements import Observation, ObservationPart, Resource
from fhir_mapping.parsing.observation_codes import ObservationCodes
from fhir_mapping.terminology.codes import ACT_CODE, LOINC, SNOMED, UCUM, CodeableConcept, system_of
from fhir_mapping.terminology.concepts import definitions
from fhir_mapping.terminology.definition_files import DefinitionError, DefinitionField, check_fields, read_yaml

Code = tuple[str, str]
_CLASSES = {"inpatient": "IMP", "emergency": "EMER", "observation": "OBSENC", "outpatient": "AMB"}
_INTENSIVE_CARE = {"coding": [{"system": SNOMED, "code": "305351004"}]}
_HEAD = (
    DefinitionField("name", str),
    DefinitionField("systems", dict, required=False),
    DefinitionField("observations", list, required=False),
    DefinitionField("codes", list, required=False),
    DefinitionField("encounters", list, required=False),
    DefinitionField("preliminary", str, required=False, one_of=("use", "refuse")),
)
_OBSERVATIONS = (DefinitionField("systems", list), DefinitionField("items", dict))
_ITEM = (DefinitionField("concept", str), DefinitionField("unit", str, required=False))
_CODES = (DefinitionField("from", str), DefinitionField("to", str), DefinitionField("items", dict))
_ENCOUNTER = (
    DefinitionField("identifier", str, required=False),
    DefinitionField("system", str, required=False),
    DefinitionField("classes", dict),
    DefinitionField("intensive_care", bool, required=False),
)
# Mapped elements with codings: CodeableConcepts, and elements that contain them.
_CONCEPTS = frozenset(
    {"code", "medicationCodeableConcept", "type", "serviceType", "priority", "reasonCode", "valueCodeableConcept",
     "admitSource", "dischargeDisposition"}
)  # fmt: skip
_HOLDERS = frozenset({"component", "hospitalization", "admission", "medication", "contained"})
_CODED = _CONCEPTS | _HOLDERS | {"valueQuantity"}


@dataclass(frozen=True, slots=True)
class EncounterRule:
    """Class codes of local Encounters with one identifier system or one class system."""

    classes: Mapping[str, str]
    """Local class code -> code of v3-ActCode."""
    identifier: str | None = None
    system: str | None = None
    intensive_care: bool = False

    def fits(self, encounter: Resource) -> bool:
        """Whether the Encounter has an identifier of the rule's system; without one, always."""
        if self.identifier is None:
            return True
        listed = encounter.get("identifier")
        return any(
            isinstance(item, dict) and item.get("system") == self.identifier
            for item in (listed if isinstance(listed, list) else ())
        )


@dataclass(frozen=True, slots=True)
class SiteMap:
    """Translations of local codes, of one site map or several merged ones; the later one takes precedence."""

    systems: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[Code, tuple[str, str | None]] = field(default_factory=dict)
    """(system, code) of an Observation -> LOINC code and the unit of values without one."""
    codes: Mapping[Code, Code] = field(default_factory=dict)
    encounters: tuple[EncounterRule, ...] = ()
    preliminary: bool = True
    """Whether preliminary results are used until there is a final one."""
    names: tuple[str, ...] = ()
    _known: frozenset[str] = frozenset()

    @classmethod
    def open(cls, path: Path | str) -> SiteMap:
        """Returns the shipped map merged with a site's own file. Raises DefinitionError naming file and field."""
        path = Path(path)
        try:
            document = read_document(path)
        except DocumentError as error:
            raise DefinitionError(path.name, "" if error.line is None else f"line {error.line}", str(error)) from None
        return parse(document, path.name).over(shipped())

    @property
    def fingerprint(self) -> str:
        """Differs wherever the translations do."""
        what = (self.systems, self.items, self.codes)
        content = repr(
            [[sorted(table.items(), key=repr) for table in what], self.encounters, self.preliminary, self.names]
        )
        return hashlib.sha256(content.encode()).hexdigest()

    def over(self, under: SiteMap) -> SiteMap:
        """Returns this map merged with `under`; this one takes precedence."""
        merged = replace(
            under,
            systems={**under.systems, **self.systems},
            items={**under.items, **self.items},
            codes={**under.codes, **self.codes},
            encounters=(*self.encounters, *under.encounters),
            preliminary=self.preliminary and under.preliminary,
            names=(*under.names, *self.names),
        )
        local = {*merged.systems, *(system for system, _ in (*merged.items, *merged.codes))}
        return replace(merged, _known=frozenset(local))

    def translate(self, resource: Resource) -> Resource:
        """Returns the resource with standard codes added; the same object if it has no local codes."""
        kind = resource.get("resourceType")
        if kind == "Encounter":
            resource = self._encounter(resource)
        if not self._has_local_code(resource):
            return resource
        changed = {name: new for name, new in self._changes(resource) if new is not resource[name]}
        return {**resource, **changed} if changed else resource

    def may_translate(self, observation: Observation, meanings: Sequence[ObservationCodes]) -> bool:
        """Whether an Observation with these code meanings may have local codes that a feature would use."""
        if observation.contained is not None:
            return True
        wanted = False
        for meaning in meanings:
            if not self._known.isdisjoint(meaning.systems):
                return True
            wanted = wanted or meaning.wanted
        return wanted and any(self._value_is_local(part) for part in observation.parts)

    def _value_is_local(self, part: ObservationPart) -> bool:
        quantity, answer = part.valueQuantity, part.valueCodeableConcept
        system = quantity.get("system") if isinstance(quantity, dict) else None
        if system is not None and system_of(system) != UCUM and self._is_local("valueQuantity", quantity):
            return True
        return isinstance(answer, dict) and self._is_local("valueCodeableConcept", answer)

    def _has_local_code(self, holder: Resource) -> bool:
        """Whether anything in it is coded in one of this map's systems; most resources are not."""
        for name in _CODED & holder.keys():
            value = holder[name]
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, dict) and self._is_local(name, item):
                    return True
        return False

    def _is_local(self, name: str, item: Resource) -> bool:
        if type(item) is CodeableConcept:
            return not self._known.isdisjoint(item.systems)
        if name in _HOLDERS:
            return self._has_local_code(item)
        codings = (item,) if name == "valueQuantity" else item.get("coding")
        for coding in codings if isinstance(codings, (list, tuple)) else ():
            system = coding.get("system") if isinstance(coding, dict) else None
            if isinstance(system, str) and system_of(system) in self._known:
                return True
        return False

    def _changes(self, holder: Resource) -> Iterator[tuple[str, Any]]:
        unit = self._unit_of_item(holder)
        for name, value in holder.items():
            if name in _CONCEPTS:
                yield name, self._each(value, self._concept)
            elif name in _HOLDERS:
                yield name, self._each(value, self._holder)
            elif name == "valueQuantity" and isinstance(value, dict):
                yield name, self._quantity(value, unit)

    def _each(self, value: Any, change: Any) -> Any:
        if not isinstance(value, list):
            return change(value)
        new = [change(item) for item in value]
        return new if any(a is not b for a, b in zip(new, value, strict=True)) else value

    def _holder(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        changed = {name: new for name, new in self._changes(value) if new is not value[name]}
        return {**value, **changed} if changed else value

    def _concept(self, value: Any) -> Any:
        """Returns a CodeableConcept with the translated codings before the local ones."""
        raw = value.get("coding") if isinstance(value, dict) else None
        if not isinstance(raw, list):
            return value
        standard = [new for coding in _complete(raw) if (new := self._coding(coding)) is not None]
        return {**value, "coding": [*standard, *raw]} if standard else value

    def _coding(self, coding: dict[str, Any]) -> dict[str, Any] | None:
        system, code = system_of(coding["system"]) or "", coding["code"]
        if system not in self._known:
            return None
        item = self.items.get((system, code))
        if item is not None:
            return {"system": LOINC, "code": item[0]}
        target = self.codes.get((system, code))
        if target is not None:
            return {**coding, "system": target[0], "code": target[1]}
        return {**coding, "system": self.systems[system]} if system in self.systems else None

    def _unit_of_item(self, holder: Resource) -> str | None:
        """Returns the unit that the map gives an item, for values without one."""
        code = holder.get("code")
        raw = code.get("coding") if isinstance(code, dict) else None
        found = (self.items.get((system_of(coding["system"]) or "", coding["code"])) for coding in _complete(raw))
        return next((item[1] for item in found if item is not None), None)

    def _quantity(self, quantity: dict[str, Any], unit: str | None) -> dict[str, Any]:
        if unit is not None and not (quantity.get("unit") or quantity.get("code")):
            return {**quantity, "unit": unit, "code": unit, "system": UCUM}
        system = system_of(quantity.get("system"))
        if system is not None and system in self.systems:
            return {**quantity, "system": self.systems[system]}
        return quantity

    def _encounter(self, encounter: Resource) -> Resource:
        for rule in self.encounters:
            if not rule.fits(encounter):
                continue
            code = next(
                (c for s, c in _classes(encounter.get("class")) if rule.system in (None, s) and c in rule.classes), None
            )
            if code is None:
                continue
            changed = {**encounter, "class": {"system": ACT_CODE, "code": rule.classes[code]}}
            if rule.intensive_care:
                types = encounter.get("type")
                changed["type"] = [*(types if isinstance(types, list) else ()), _INTENSIVE_CARE]
            return changed
        return encounter


def _complete(raw: Any) -> Iterator[dict[str, Any]]:
    """Yields the codings of a list that have both system and code."""
    for item in raw if isinstance(raw, list) else ():
        if isinstance(item, dict) and isinstance(item.get("system"), str) and isinstance(item.get("code"), str):
            yield item


def _classes(raw: Any) -> Iterator[tuple[str | None, str]]:
    """Yields system and code of every class of an Encounter, R4 or R5."""
    for item in raw if isinstance(raw, list) else [raw]:
        found = item.get("coding") if isinstance(item, dict) and "coding" in item else [item]
        for coding in found if isinstance(found, list) else ():
            if isinstance(coding, dict) and isinstance(coding.get("code"), str):
                yield system_of(coding.get("system")), coding["code"]


@cache
def shipped() -> SiteMap:
    """Returns the maps that always apply: MIMIC-IV and NPU."""
    found = SiteMap()
    for name in ("npu.yaml", "mimic-iv.yaml"):
        raw = files("fhir_mapping.definitions").joinpath("site_maps", name).read_bytes()
        found = parse(read_yaml(raw, name), name).over(found)
    return found


def parse(document: Any, file: str) -> SiteMap:
    """Returns a site map read from its YAML document. Raises DefinitionError naming file and field.

    >>> parse({"name": "x", "observations": [{"systems": ["urn:lab"], "items": {"NA": "natrium"}}]}, "x.yaml")
    Traceback (most recent call last):
    fhir_mapping.terminology.definition_files.DefinitionError: x.yaml: observations[0].items.NA: unknown \
concept natrium; see concepts.yaml
    """
    check_fields(document, _HEAD, file, "")
    codes: dict[Code, Code] = {}
    for number, raw in enumerate(document.get("codes", [])):
        check_fields(raw, _CODES, file, f"codes[{number}]")
        for code, target in raw["items"].items():
            codes[(_uri(raw["from"]), _text(code, file, f"codes[{number}].items"))] = (raw["to"], str(target))
    return SiteMap(
        systems=_systems(document.get("systems", {}), file),
        items=dict(_items(document.get("observations", []), file)),
        codes=codes,
        encounters=tuple(_rules(document.get("encounters", []), file)),
        preliminary=document.get("preliminary", "use") == "use",
        names=(document["name"],),
    )


def _text(code: Any, file: str, place: str) -> str:
    if not isinstance(code, str):
        raise DefinitionError(file, f"{place}.{code}", "codes must be text: put them in quotes")
    return code


def _systems(raw: Mapping[Any, Any], file: str) -> dict[str, str]:
    for local, target in raw.items():
        if not isinstance(local, str) or not isinstance(target, str):
            raise DefinitionError(file, f"systems.{local}", "expected the URI of a standard system")
    return {_uri(local): _uri(target) for local, target in raw.items()}


def _uri(system: str) -> str:
    return system_of(system) or system


def _items(raw: Sequence[Any], file: str) -> Iterator[tuple[Code, tuple[str, str | None]]]:
    known = definitions()
    for number, group in enumerate(raw):
        place = f"observations[{number}]"
        check_fields(group, _OBSERVATIONS, file, place)
        for code, item in group["items"].items():
            where = f"{place}.items.{code}"
            _text(code, file, f"{place}.items")
            parts = {"concept": item} if isinstance(item, str) else item
            check_fields(parts, _ITEM, file, where)
            concept = known.concepts.get(parts["concept"]) or known.by_loinc.get(parts["concept"])
            if concept is None or not concept.loinc:
                raise DefinitionError(file, where, f"unknown concept {parts['concept']}; see concepts.yaml")
            unit = known.unit(parts["unit"]) if "unit" in parts else None
            if unit is not None and concept.convert(1.0, unit) is None:
                raise DefinitionError(file, f"{where}.unit", f"{unit!r} cannot be converted into {concept.unit}")
            loinc = parts["concept"] if parts["concept"] in known.by_loinc else concept.loinc[0]
            for system in group["systems"]:
                yield (_uri(system), code), (loinc, unit)


def _rules(raw: Sequence[Any], file: str) -> Iterator[EncounterRule]:
    for number, rule in enumerate(raw):
        place = f"encounters[{number}]"
        check_fields(rule, _ENCOUNTER, file, place)
        for code, name in rule["classes"].items():
            if name not in _CLASSES:
                raise DefinitionError(file, f"{place}.classes.{code}", f"{name!r} is none of {', '.join(_CLASSES)}")
        yield EncounterRule(
            classes={str(code): _CLASSES[name] for code, name in rule["classes"].items()},
            identifier=rule.get("identifier"),
            system=system_of(rule.get("system")),
            intensive_care=rule.get("intensive_care", False),
        )
