"""Meanings of the codes of an Encounter, each by its own code system; the tables are in `encounter_codes.yaml`.

All codings of a concept are read: their order has no meaning (https://hl7.org/fhir/R4/datatypes.html#CodeableConcept).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from artifact_store import bare_uri
from fhir_mapping.core.values import Coding
from fhir_mapping.terminology.definition_files import DefinitionError, DefinitionField, check_fields, read_yaml

Table = Literal["classes", "dispositions", "sources", "priorities", "intensive_care"]
_FILE = "encounter_codes.yaml"
_FIELDS = (
    DefinitionField("systems", list),
    DefinitionField("without_system", bool, required=False),
    DefinitionField("codes", dict),
)
_NO_SYSTEM = ""
# No code in these tables is longer: longer ones are not looked up.
_LONGEST_CODE = 64


def meanings(table: Table, found: Iterable[Coding]) -> frozenset[str]:
    """Returns what the understood codings mean; none for codings of unknown systems.

    >>> disposition = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
    >>> sorted(meanings("dispositions", [Coding("urn:local", "20"), Coding(disposition, "exp")]))
    ['died']
    >>> sorted(meanings("dispositions", [Coding(None, "20")]))
    []
    """
    stated = tuple(found)
    return _meanings(table, stated) if stated else frozenset()


@lru_cache(maxsize=4096)  # a chart repeats the same few codings in hundreds of encounters
def _meanings(table: Table, found: tuple[Coding, ...]) -> frozenset[str]:
    known = _tables()[table]
    return frozenset(
        meaning for coding in found if (meaning := known.get(_key(coding.system, coding.code))) is not None
    )


def is_known_system(table: Table, system: str | None) -> bool:
    """Whether a table has codes of this system: a code of it that is not in the table means something else."""
    return system is not None and bare_uri(system) in _systems()[table]


def _key(system: str | None, code: str) -> tuple[str, str]:
    bare = _NO_SYSTEM if system is None else bare_uri(system)
    return bare, normalised(code) if len(code) <= _LONGEST_CODE else ""


def normalised(code: str) -> str:
    """Returns a code in lower case without leading zeros.

    >>> normalised(" 07"), normalised("0"), normalised("EXP")
    ('7', '0', 'exp')
    """
    text = code.strip().casefold()
    return text.lstrip("0") or text[-1:]


@cache
def _tables() -> Mapping[Table, Mapping[tuple[str, str], str]]:
    return {name: _read(name, entries) for name, entries in _document().items()}


@cache
def _systems() -> Mapping[Table, frozenset[str]]:
    return {name: frozenset(system for system, _ in table) for name, table in _tables().items()}


@cache
def _document() -> Mapping[Table, Any]:
    return read_yaml(files("fhir_mapping.definitions").joinpath(_FILE).read_bytes(), _FILE)  # type: ignore[no-any-return]


def _read(name: str, entries: Any) -> dict[tuple[str, str], str]:
    """Returns (system, code) -> meaning. Raises DefinitionError for a code with two meanings."""
    found: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(entries):
        place = f"{name}[{number}]"
        check_fields(entry, _FIELDS, _FILE, place)
        systems = [bare_uri(system) for system in entry["systems"]]
        for meaning, codes in entry["codes"].items():
            for code in map(_text, codes):
                words = [_NO_SYSTEM] if entry.get("without_system") and len(code) > 1 else []
                for key in ((system, normalised(code)) for system in (*systems, *words)):
                    if found.setdefault(key, meaning) != meaning:
                        raise DefinitionError(_FILE, f"{place}.codes.{meaning}", f"{code} already means {found[key]}")
    return found


def _text(code: Any) -> str:
    if not isinstance(code, str):
        raise DefinitionError(_FILE, str(code), "codes must be text: put them in quotes")
    return code
