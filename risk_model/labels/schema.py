"""Reads predicates from YAML, with errors that name the field. See `task_definitions` for the whole task file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from fhir_mapping import StayClass
from fhir_mapping.resources import DISPOSITIONS
from fhir_mapping.terminology import ICD9CM, ICD10CM, LOINC, RXNORM, SNOMED, definitions, diagnosis_table
from risk_model.core.errors import TaskDefinitionError
from risk_model.labels.predicates import (
    Age,
    AllOf,
    AnyOf,
    Before,
    Bounds,
    CodedEvent,
    CodeSet,
    Death,
    Encounters,
    GroupedCondition,
    IntensiveCare,
    LaterEvent,
    MeasuredEvent,
    Not,
    Predicate,
    Recorded,
    SameDay,
    Sex,
    StayIs,
)

_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(min|minutes?|h|hours?|d|days?|weeks?|y|years?)\Z")
_UNITS = {
    "min": 1 / 1440, "minute": 1 / 1440, "h": 1 / 24, "hour": 1 / 24, "d": 1, "day": 1, "week": 7,
    "y": 365.25, "year": 365.25,
}  # fmt: skip
_CODE_SYSTEMS = {
    "icd10cm": ICD10CM,
    "icd10": "http://hl7.org/fhir/sid/icd-10",
    "icd9cm": ICD9CM,
    "snomed": SNOMED,
    "loinc": LOINC,
    "rxnorm": RXNORM,
}
_KINDS = ("condition", "procedure", "medication", "report")
_BOUNDS = ("below", "above", "at_least", "at_most")


@dataclass(frozen=True, slots=True)
class TaskField:
    """A value of a task file with its path; every error names the path."""

    file: str
    path: str
    value: Any

    def fail(self, message: str) -> NoReturn:
        raise TaskDefinitionError(message, file=self.file, field=self.path or "the file")

    def at(self, key: str | int) -> TaskField:
        path = f"{self.path}[{key}]" if isinstance(key, int) else f"{self.path}.{key}".lstrip(".")
        return TaskField(self.file, path, self.value[key])

    def mapping(self, allowed: Collection[str], required: Collection[str] = ()) -> Mapping[str, Any]:
        if not isinstance(self.value, dict):
            self.fail(f"expected a mapping with {_listed(allowed)}")
        for key in self.value:
            if key not in allowed:
                self.fail(f"unknown key {key!r}; known: {_listed(allowed)}")
        for key in required:
            if key not in self.value:
                self.fail(f"{key!r} is missing")
        return self.value

    def get(self, key: str) -> TaskField | None:
        return self.at(key) if key in self.value else None

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            self.fail(f"expected text, found {self.value!r}")
        return self.value.strip()

    def word(self, allowed: Collection[str]) -> str:
        if self.value not in allowed:
            self.fail(f"{self.value!r} is none of {_listed(allowed)}")
        return str(self.value)

    def words(self, allowed: Collection[str]) -> tuple[str, ...]:
        """Returns one word or a list of them."""
        if not isinstance(self.value, list):
            return (self.word(allowed),)
        if not self.value:
            self.fail("an empty list")
        return tuple(self.at(number).word(allowed) for number in range(len(self.value)))

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.fail(f"expected a number, found {self.value!r}")
        return float(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            self.fail(f"expected true or false, found {self.value!r}")
        return self.value

    def items(self) -> Sequence[TaskField]:
        if not isinstance(self.value, list) or not self.value:
            self.fail("expected a list that is not empty")
        return [self.at(number) for number in range(len(self.value))]

    def duration(self) -> timedelta:
        """Returns a duration: `24 h`, `30 d`, `-1 min`.

        >>> TaskField("t.yaml", "window.to", "30 d").duration().days
        30
        """
        found = _DURATION.match(self.value) if isinstance(self.value, str) else None
        if found is None:
            self.fail(f"{self.value!r} is no duration such as '24 h', '30 d' or '1 min'")
        unit = found[2] if found[2] in _UNITS else found[2].rstrip("s")
        return timedelta(days=float(found[1]) * _UNITS[unit])


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words))


def predicate(field: TaskField) -> Predicate:
    """Returns the predicate of a mapping with exactly one key, its name."""
    if not isinstance(field.value, dict) or len(field.value) != 1:
        field.fail(f"expected exactly one of {_listed(_READERS)}")
    name = next(iter(field.value))
    if name not in _READERS:
        field.fail(f"unknown predicate {name!r}; known: {_listed(_READERS)}")
    return _READERS[name](field.at(name))


def bounds(field: TaskField, known: Collection[str] = ()) -> Bounds:
    values = field.mapping({*_BOUNDS, *known})
    if not any(key in values for key in _BOUNDS):
        field.fail(f"needs a bound: {_listed(_BOUNDS)}")
    return Bounds(**{key: field.at(key).number() for key in _BOUNDS if key in values})


def _encounter(field: TaskField) -> Predicate:
    values = field.mapping({"class", "planned", "avoidable", "same_condition", "first", "count"}, {"class"})
    flags = {key: field.at(key).flag() for key in ("planned", "avoidable", "same_condition", "first") if key in values}
    names = field.at("class").words([*StayClass, "any"])
    classes = frozenset(StayClass) if "any" in names else frozenset(StayClass(name) for name in names)
    return Encounters(classes, at_least=int(field.at("count").number()) if "count" in values else 1, **flags)


def _concept(field: TaskField) -> Predicate:
    values = field.mapping({"name", "count", *_BOUNDS}, {"name"})
    name = field.at("name").word(definitions().concepts.keys())
    count = int(field.at("count").number()) if "count" in values else 1
    return MeasuredEvent(name, bounds(field, ("name", "count")), count)


def _codes(field: TaskField) -> Predicate:
    field.mapping({"kind", "any"}, {"any"})
    kinds = field.at("kind").words(_KINDS) if "kind" in field.value else _KINDS
    return CodedEvent(tuple(code_set(item) for item in field.at("any").items()), frozenset(kinds))


def code_set(field: TaskField) -> CodeSet:
    """Returns the code set of `{system: icd10cm, codes: [I10], prefixes: [I11]}`."""
    values = field.mapping({"system", "codes", "prefixes"}, {"system"})
    raw = field.at("system").text()
    system = _CODE_SYSTEMS.get(raw, raw)
    if "://" not in system and not system.startswith("urn:"):
        field.at("system").fail(f"{raw!r} is neither one of {_listed(_CODE_SYSTEMS)} nor a URI")
    if not {"codes", "prefixes"} & set(values):
        field.fail("needs codes or prefixes")
    found = {
        key: tuple(str(item.value).replace(".", "").upper() for item in field.at(key).items())
        for key in ("codes", "prefixes")
        if key in values
    }
    return CodeSet(system, frozenset(found.get("codes", ())), found.get("prefixes", ()))


def _stay(field: TaskField) -> Predicate:
    values = field.mapping({"disposition", "days", "ends_same_day", "acute"})
    if not values:
        field.fail("needs disposition, days, ends_same_day or acute")
    return StayIs(
        frozenset(field.at("disposition").words(DISPOSITIONS)) if "disposition" in values else frozenset(),
        bounds(field.at("days")) if "days" in values else None,
        field.at("ends_same_day").flag() if "ends_same_day" in values else None,
        field.at("acute").flag() if "acute" in values else None,
    )


def _death(field: TaskField) -> Predicate:
    return Death(in_stay=field.word({"in_stay", "in_window"}) == "in_stay")


def _flag_only(made: Predicate) -> Callable[[TaskField], Predicate]:
    def read(field: TaskField) -> Predicate:
        return made if field.flag() else Not(made)

    return read


_READERS: Mapping[str, Callable[[TaskField], Predicate]] = {
    "all": lambda field: AllOf(tuple(predicate(item) for item in field.items())),
    "any": lambda field: AnyOf(tuple(predicate(item) for item in field.items())),
    "not": lambda field: Not(predicate(field)),
    "before": lambda field: Before(predicate(field)),
    "recorded": lambda field: Recorded(predicate(field)),
    "same_day": lambda field: SameDay(predicate(field)),
    "encounter": _encounter,
    "concept": _concept,
    "codes": _codes,
    "group": lambda field: GroupedCondition(field.word(diagnosis_table().groups.keys())),
    "death": _death,
    "stay": _stay,
    "age": lambda field: Age(bounds(field)),
    "sex": lambda field: Sex(field.word({"female", "male", "other"})),
    "intensive_care": _flag_only(IntensiveCare()),
    "later_event": _flag_only(LaterEvent()),
}
PREDICATES = tuple(_READERS)
