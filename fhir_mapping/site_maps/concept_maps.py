"""Reads mappings of local codes for a site map: ConceptMap (R4, R5), results of `$translate`, and CSV.

    read_mappings(raw, "lab.csv", system="urn:hospital:lab")     -> one CodeMapping a row, as stated
    imported(mappings, document)                                 -> a site map document with what may be used

Only codes that mean the same are taken. R4 names the relation of the *target* to the source (`wider`: the target is
broader, https://hl7.org/fhir/R4/valueset-concept-map-equivalence.html), R5 that of the *source* to the target
(`source-is-narrower-than-target`, https://hl7.org/fhir/R5/valueset-concept-map-relationship.html).
"""

from __future__ import annotations

import copy
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.parsing.elements import Resource, decode_json
from fhir_mapping.site_maps.site_map import parse
from fhir_mapping.terminology.codes import LOINC, system_of
from fhir_mapping.terminology.concepts import definitions

SAME = frozenset({"equal", "equivalent"})
WIDER = frozenset({"wider", "subsumes", "source-is-narrower-than-target"})
"""The target is broader than the local code: what it says stays true."""
NARROWER = frozenset({"narrower", "specializes", "source-is-broader-than-target"})
_OTHER = frozenset({"relatedto", "related-to", "inexact", "unmatched", "disjoint", "not-related-to"})
_COLUMNS = {
    "system": ("system", "local_system", "source_system", "codesystem"),
    "code": ("code", "local_code", "source_code", "test_code", "item"),
    "display": ("display", "name", "local_name", "description", "test_name", "label"),
    "unit": ("unit", "units", "local_unit", "ucum", "uom"),
    "target": ("loinc", "loinc_code", "loinc_num", "target", "target_code"),
    "target_system": ("target_system",),
    "relation": ("equivalence", "relationship", "relation"),
}
_LOINC = re.compile(r"\d{1,7}-\d")


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """A local code and what a source says it means. `place` says where; `depends` that it holds in a context only."""

    system: str
    code: str
    target_system: str
    target: str
    relation: str
    place: str
    unit: str | None = None
    depends: bool = False


@dataclass(slots=True)
class SiteMapImport:
    """What became of the mappings: `document` is the site map, `refused` counts mappings by reason."""

    document: dict[str, Any]
    taken: int = 0
    known: int = 0
    """Mappings that the site map had already."""
    refused: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    """One line for each local code with several meanings; none of them is taken."""


def read_mappings(raw: bytes, name: str, *, system: str | None = None, source: str | None = None) -> list[CodeMapping]:
    """Returns the mappings of a file, detected by its content.

    `system` is that of local codes which name none. `source`, `SYSTEM|CODE`, is what a single `$translate` result is
    the answer to. Raises InvalidInputError.
    """
    if raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        content = decode_json(raw.lstrip(b"\xef\xbb\xbf \t\r\n"))
        return list(_of_json(content, name, system, source))
    return list(_of_csv(raw, name, system))


def _of_json(content: Any, name: str, system: str | None, source: str | None) -> Iterator[CodeMapping]:
    kind = content.get("resourceType") if isinstance(content, dict) else None
    if kind == "ConceptMap":
        yield from _of_concept_map(content, name, system)
    elif kind == "Parameters":
        yield from _of_translation(content, name, source)
    elif kind == "Bundle":
        for number, entry in enumerate(_list(content.get("entry"))):
            resource, place = entry.get("resource"), f"{name}: entry {number + 1}"
            if isinstance(resource, dict) and resource.get("resourceType") == "Parameters":
                yield from _of_translation(resource, place, _asked(entry) or source)
            elif isinstance(resource, dict) and resource.get("resourceType") == "ConceptMap":
                yield from _of_concept_map(resource, place, system)
    else:
        raise InvalidInputError(f"{name}: neither a ConceptMap, Parameters of $translate, a Bundle of them, nor CSV")


def _of_concept_map(concept_map: Resource, name: str, system: str | None) -> Iterator[CodeMapping]:
    for group_number, group in enumerate(_list(concept_map.get("group"))):
        local = _unversioned(group.get("source")) or system or _uri_of(concept_map, "source") or ""
        standard = _unversioned(group.get("target")) or ""
        for number, element in enumerate(_list(group.get("element"))):
            place = f"{name}: group {group_number + 1}, element {number + 1}"
            if not local:
                raise InvalidInputError(f"{place}: no source system; name it with --system URI")
            code: Any = element.get("code")
            targets = _list(element.get("target"))
            if not isinstance(code, str) or not code:
                yield CodeMapping(local, "", standard, "", "no-code", place)
            elif element.get("noMap") is True or not targets:
                yield CodeMapping(local, code, standard, "", "no-target", place)
            for target in targets if isinstance(code, str) and code else ():
                relation = target.get("equivalence") or target.get("relationship") or ""
                depends = bool(target.get("dependsOn") or target.get("product"))
                yield CodeMapping(
                    local, code, standard, str(target.get("code") or ""), str(relation), place, depends=depends
                )


def _of_translation(parameters: Resource, place: str, source: str | None) -> Iterator[CodeMapping]:
    """`match` parts of $translate: the answer does not repeat what was asked."""
    local, bar, code = (source or "").rpartition("|")
    if not bar or not local or not code:
        raise InvalidInputError(
            f"{place}: a $translate result does not say which code was asked; name it with --source 'SYSTEM|CODE'"
        )
    matches = [item for item in _list(parameters.get("parameter")) if item.get("name") == "match"]
    if not matches:
        yield CodeMapping(local, code, "", "", "no-target", place)
    for match in matches:
        parts = {part.get("name"): part for part in _list(match.get("part"))}
        coding = parts.get("concept", {}).get("valueCoding") or {}
        relation = next((str(parts[n].get("valueCode")) for n in ("equivalence", "relationship") if n in parts), "")
        depends = "dependsOn" in parts or "product" in parts
        yield CodeMapping(
            local, code, _unversioned(coding.get("system")) or "", str(coding.get("code") or ""), relation, place,
            depends=depends,
        )  # fmt: skip


def _asked(entry: Mapping[str, Any]) -> str | None:
    """`SYSTEM|CODE` of the request that a Bundle's entry answers, from its URLs."""
    links = [item.get("url") for item in _list(entry.get("link"))]
    for url in (entry.get("fullUrl"), (entry.get("request") or {}).get("url"), *links):
        query = parse_qs(urlsplit(url).query) if isinstance(url, str) and "$translate" in url else {}
        code = query.get("code") or query.get("sourceCode")
        if code and "system" in query:
            return f"{query['system'][0]}|{code[0]}"
    return None


def _of_csv(raw: bytes, name: str, system: str | None) -> Iterator[CodeMapping]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name}: not UTF-8 (byte {error.start}); save the table as UTF-8") from None
    first = text.partition("\n")[0]
    separator = max("\t;,", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [cell.strip().lower().replace(" ", "_") for cell in next(rows, [])]
    columns = {key: next((header.index(n) for n in names if n in header), None) for key, names in _COLUMNS.items()}
    if columns["code"] is None or columns["target"] is None:
        raise InvalidInputError(
            f"{name}: expected a header with the columns code and loinc, found: {', '.join(header)}"
        )
    if columns["system"] is None and not system:
        raise InvalidInputError(f"{name}: no column system; name the system of the codes with --system URI")

    def cell(row: Sequence[str], key: str) -> str:
        place = columns[key]
        return row[place].strip() if place is not None and place < len(row) else ""

    try:
        for number, row in enumerate(rows, start=2):
            if not any(value.strip() for value in row):
                continue
            place = f"{name}: line {number}"
            local = cell(row, "system") or system or ""
            relation = cell(row, "relation").lower() or "equivalent"
            if not cell(row, "target"):
                relation = "no-target"
            if not local or not cell(row, "code"):
                relation = "no-code"
            yield CodeMapping(
                local, cell(row, "code"), cell(row, "target_system") or LOINC, cell(row, "target"), relation, place,
                cell(row, "unit") or None,
            )  # fmt: skip
    except csv.Error as error:
        raise InvalidInputError(f"{name}: line {rows.line_num}: {error}") from None


def imported(
    mappings: Iterable[CodeMapping], existing: Mapping[str, Any], *, wider: bool = False, replace: bool = False
) -> SiteMapImport:
    """Returns the site map document `existing` with the mappings that may be used, and what became of the others.

    A local code with two meanings is a conflict and not taken; one that the site map has another meaning for keeps it,
    unless `replace`. `wider` takes targets that are broader than the local code.
    """
    result = SiteMapImport(copy.deepcopy(dict(existing)))
    wanted: dict[tuple[str, str], dict[tuple[str, str, str | None], CodeMapping]] = {}
    for mapping in mappings:
        reason = _refusal(mapping, wider=wider)
        if reason:
            result.refused[reason] += 1
            continue
        unit = None if mapping.unit is None else definitions().unit(mapping.unit)
        key = (system_of(mapping.system) or mapping.system, mapping.code)
        meaning = (system_of(mapping.target_system) or mapping.target_system, mapping.target, unit)
        if wanted.setdefault(key, {}).setdefault(meaning, mapping) is not mapping:
            result.refused["repeated"] += 1
    for (system, code), meanings in wanted.items():
        if len(meanings) > 1:
            listed = "; ".join(f"{target} ({mapping.place})" for (_, target, _), mapping in meanings.items())
            result.conflicts.append(f"{system}|{code} has several meanings: {listed}")
            continue
        ((target_system, target, unit),) = meanings
        _put(result, system, code, (target_system, target, unit), replace=replace)
    return result


def _refusal(mapping: CodeMapping, *, wider: bool) -> str:
    """Returns why a mapping may not be used; empty if it may."""
    relation = mapping.relation
    if relation in {"no-code", "no-target"}:
        return relation
    if relation not in SAME:
        if relation in WIDER and not wider:
            return "wider"
        if relation not in WIDER:
            return "narrower" if relation in NARROWER else relation if relation in _OTHER else "relation-not-understood"
    if mapping.depends:
        return "depends-on-context"
    if not mapping.target or not mapping.target_system:
        return "no-target"
    if system_of(mapping.target_system) != LOINC:
        return ""
    if not _LOINC.fullmatch(mapping.target):
        return "not-a-loinc-code"
    concept = definitions().by_loinc.get(mapping.target)
    if concept is None:
        return "loinc-not-used"
    if mapping.unit is None:
        return ""
    return (
        ""
        if concept.convert(1.0, definitions().unit(mapping.unit), mapping.target) is not None
        else "unit-not-convertible"
    )


def _put(result: SiteMapImport, system: str, code: str, meaning: tuple[str, str, str | None], *, replace: bool) -> None:
    target_system, target, unit = meaning
    if target_system == LOINC:
        groups = result.document.setdefault("observations", [])
        holders = [group for group in groups if system in {system_of(s) or s for s in group["systems"]}]
        item: Any = {"concept": target, "unit": unit} if unit else target
        new: dict[str, Any] = {"systems": [system], "items": {}}
    else:
        groups = result.document.setdefault("codes", [])
        holders = [g for g in groups if (system_of(g["from"]) or g["from"]) == system]
        item, new = target, {"from": system, "to": target_system, "items": {}}
        other = next((g for g in holders if code in g["items"] and g["to"] != target_system), None)
        if other is not None:
            result.conflicts.append(f"{system}|{code} is {other['items'][code]} of {other['to']} in the site map")
            return
        holders = [g for g in holders if g["to"] == target_system]
    holder = next((group for group in holders if code in group["items"]), None)
    if holder is not None and not replace:
        if _meaning(holder["items"][code]) == _meaning(item):
            result.known += 1
        else:
            there = _meaning(holder["items"][code])[0]
            result.conflicts.append(f"{system}|{code} is {there} in the site map and {target} in the file")
        return
    if holder is None:
        holder = next(iter(holders), None)
    if holder is None:
        groups.append(new)
        holder = new
    holder["items"][code] = item
    result.taken += 1


def _meaning(item: Any) -> tuple[str, str | None]:
    """Concept and unit of an item; a LOINC code and a concept's name are the same if the concept is."""
    parts = {"concept": item} if isinstance(item, str) else item
    concept = definitions().by_loinc.get(parts["concept"])
    return (concept.name if concept else parts["concept"]), parts.get("unit")


def check_document(document: Mapping[str, Any], name: str) -> None:
    """Raises DefinitionError if a site map document is invalid."""
    parse(document, name)


def _list(raw: Any) -> list[dict[str, Any]]:
    return [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []


def _unversioned(raw: Any) -> str | None:
    """A canonical URI without its version: `http://loinc.org|2.77`."""
    return raw.partition("|")[0] or None if isinstance(raw, str) else None


def _uri_of(concept_map: Resource, name: str) -> str | None:
    return next(
        (_unversioned(concept_map.get(n)) for n in (f"{name}Uri", f"{name}ScopeUri") if concept_map.get(n)), None
    )
