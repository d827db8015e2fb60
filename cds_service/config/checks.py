"""Types of settings that a range does not describe: addresses, lists, files and names, each with its check."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator
from sqlalchemy.exc import ArgumentError

from cds_service.cards.drafts import read_drafts
from cds_service.config.sources import once
from cds_service.config.values import each, origin, user, web_address
from cds_service.net.gateway import Gateway, GatewayError
from cds_service.net.outbound import Networks
from cds_service.services import SERVICES
from cds_service.store.engine import SUPPORTED, database_of
from fhir_mapping import DefinitionError, SiteMap
from risk_model.llm import RULES, ReaderName, ReaderNameError

_Texts = tuple[str, ...]
_DRIVERS = frozenset({"sqlite", "sqlite+pysqlite", "postgresql+psycopg"})


def _fhir_servers(values: _Texts) -> _Texts:
    try:
        Gateway(each(web_address, values))
    except GatewayError as error:
        raise ValueError(f"{error}: a FHIR base URL has no dot segments") from None
    return values


def _networks(values: _Texts) -> _Texts:
    Networks.of(values)
    return values


def _some(values: _Texts) -> _Texts:
    if not values:
        raise ValueError("nobody would see a card; to show none, set RISKCARDS_MODE to silent or off")
    return values


def _path(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected a path without control characters and hidden ones")
    return value


def _database(value: str) -> str:
    try:
        url = database_of(value or "sqlite://")
    except (ArgumentError, ValueError):
        raise ValueError("expected a URL such as sqlite:////srv/riskcards.db") from None
    if url.drivername not in _DRIVERS:
        raise ValueError(f"expected the URL of a database of {' or '.join(SUPPORTED)}, without another driver")
    if url.get_backend_name() == "sqlite" and url.host:
        raise ValueError("expected sqlite:///FILE with three slashes, with four for an absolute path")
    return _path(value)


def _reader(value: str) -> str:
    try:
        ReaderName.of(value)
    except ReaderNameError as error:
        raise ValueError(str(error)) from None
    return value


def _stages(values: _Texts) -> _Texts:
    for item in values:
        _reader(stage1_model(item)[1])
        if ReaderName.of(stage1_model(item)[1]).kind == RULES:
            raise ValueError(f"{item!r}; expected NAME or TASK=NAME of a language model")
    once(stage1_model(item)[0] or "every task" for item in values)
    return values


def _thresholds(values: _Texts) -> _Texts:
    known = {f"{service.id}.{task}" for service in SERVICES.values() for task in service.tasks}
    for item in values:
        place, _, value = item.partition("=")
        if place not in known or not _is_probability(value):
            raise ValueError(
                f"{item!r}; expected SERVICE.TASK=PROBABILITY, such as hospital-risk.readmission_30d=0.2, "
                f"above 0, at most 1, with one of {', '.join(sorted(known))}"
            )
    once(item.partition("=")[0] for item in values)
    return values


def _readable(read: Callable[[Path], Any]) -> Callable[[str], str]:
    """A check of a configured file; one that cannot be read is an error: the service would silently do less."""

    def check(value: str) -> str:
        try:
            read(Path(_path(value))) if value else None
        except DefinitionError as error:
            raise ValueError(str(error)) from None
        return value

    return check


def _zone(value: str) -> str:
    try:
        ZoneInfo(value) if value != "UTC" else None
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("expected a known time zone, such as Europe/Berlin") from None
    return value


def stage1_model(item: str) -> tuple[str, str]:
    """(task or "" for any, name) of an item of RISKCARDS_STAGE1_MODELS

    >>> stage1_model("readmission_30d=smollm2"), stage1_model("https://llm.example/v1#a=b")
    (('readmission_30d', 'smollm2'), ('', 'https://llm.example/v1#a=b'))
    """
    task, given, name = item.partition("=")
    return (task, name) if given and re.fullmatch(r"[A-Za-z0-9_-]+", task) else ("", item)


def _is_probability(value: str) -> bool:
    try:
        return 0 < float(value) <= 1
    except ValueError:
        return False


WebAddress = Annotated[str, AfterValidator(web_address)]
PathText = Annotated[str, AfterValidator(_path)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
FhirServers = Annotated[_Texts, AfterValidator(_fhir_servers)]
NetworkRanges = Annotated[_Texts, AfterValidator(_networks)]
Origins = Annotated[_Texts, AfterValidator(lambda values: each(origin, values))]
Users = Annotated[_Texts, AfterValidator(lambda values: each(user, values))]
Thresholds = Annotated[_Texts, AfterValidator(_thresholds)]
StageModels = Annotated[_Texts, AfterValidator(_stages)]
NoteReaderName = Annotated[str, AfterValidator(_reader)]
TimeZone = Annotated[str, AfterValidator(_zone)]
SiteMapFile = Annotated[str, AfterValidator(_readable(SiteMap.open))]
SuggestionsFile = Annotated[str, AfterValidator(_readable(read_drafts))]
UserType = Literal["Practitioner", "PractitionerRole", "Patient", "RelatedPerson"]
Roles = Annotated[tuple[UserType, ...], AfterValidator(_some)]
