"""Settings: RISKCARDS_* from the environment or a JSON file, frozen, each with its type, range, unit and description.

An unknown name and a value out of range are errors. `docs/settings.md` has the table that `reference.py` makes of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cds_service.config.alert_policy import MAX_SNOOZE_HOURS, AlertPolicy
from cds_service.config.checks import (
    DatabaseUrl,
    FhirServers,
    NetworkRanges,
    NoteReaderName,
    Origins,
    PathText,
    Roles,
    SiteMapFile,
    StageModels,
    SuggestionsFile,
    Thresholds,
    TimeZone,
    Users,
    WebAddress,
    stage1_model,
)
from cds_service.config.faults import PREFIX, described, unknown
from cds_service.config.sources import Environment, SettingsError, read_settings_file
from cds_service.config.values import USER_TYPES, is_list, number, split, text
from cds_service.store.places import data_folder
from cds_service.store.store import Store
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D

# Read by tests and the screenshots, not by the service.
_NOT_OURS = frozenset(
    {
        "RISKCARDS_DATA",
        "RISKCARDS_CHROMIUM",
        "RISKCARDS_NCBI_API_KEY",
        "RISKCARDS_EUTILS_URL",
        "RISKCARDS_ADMIN_ADDRESS",
    }
)
_SHORTEST, _LONGEST = 0.1, 900
"""Seconds: below, every request would fail, and above none would be cut off."""


class Settings(BaseSettings):
    """Settings.from_environment(os.environ, Path("riskcards.json"))   ·   Settings(mode="silent")

    Without `from_environment` nothing is read from the environment. Raises SettingsError.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, enable_decoding=False, str_strip_whitespace=True
    )

    public_url: WebAddress = text(
        "http://127.0.0.1:8080",
        "The absolute URL of this service for clients; links on cards start with it",
        kind="http(s) URL",
    )
    database_url: DatabaseUrl = text(
        "",
        "SQLAlchemy URL of the store of cards and feedback, `sqlite:///...` or `postgresql://...`",
        shown="an SQLite file in the user's data folder",
    )
    database_key_file: PathText = text(
        "",
        "Key of the patients' hashes and the seals of the audit chain, see [The database and its key]"
        "(#the-database-and-its-key); created, readable by its owner only, for a new database",
        kind="path",
        shown="beside the SQLite file, or in the user's data folder",
    )
    cds_clients: PathText = text(
        "",
        "File of the CDS clients whose tokens are verified, see [Clients](#clients)",
        kind="path",
        shown="unset: open, for demonstration and development",
    )
    clients_grace_seconds: float = number(
        300.0,
        0,
        86_400,
        "A clients file that can no longer be read may have been changed to shut a client out: the last clients are "
        "accepted this long, then none (503)",
        unit="seconds",
    )
    smart_clients: PathText = text(
        "",
        "File of the EHRs the SMART app may be launched from, see [SMART clients](#smart-clients)",
        kind="path",
        shown="none: no SMART app",
    )
    session_key_file: PathText = text(
        "",
        "Key that encrypts SMART sessions and tokens in the database; created, readable by its owner only, if it does "
        "not exist",
        kind="path",
        shown="`session.key` in the user's data folder",
    )
    fhir_servers: FhirServers = text(
        (),
        "FHIR base URLs that missing prefetch may be fetched from when no clients are configured; with clients each "
        "has its own list",
        kind="comma-separated http(s) URLs",
    )
    private_networks: NetworkRanges = text(
        (),
        "CIDR ranges in which FHIR servers and key URLs may live besides the public internet, such as `10.20.0.0/16`",
        kind="comma-separated CIDR ranges",
    )
    operator_token_file: PathText = text(
        "",
        "File with the bearer token for `/metrics` and `/health/ready` at the public address, see "
        "[Health and metrics](#health-and-metrics); at the address of `riskcards serve --admin` they need none",
        kind="path",
    )
    trusted_proxies: NetworkRanges = text(
        (),
        "CIDR ranges of your own proxies: their `X-Forwarded-For` names the browser whose launches are counted",
        kind="comma-separated CIDR ranges",
    )
    open_discovery: bool = text(False, "Answer discovery without a token although clients are configured")
    allowed_origins: Origins = text(("*",), "Origins for CORS", kind="`*`, or comma-separated origins")
    index: PathText = text(
        "",
        "Folder of an index built with `riskcards index build`",
        kind="path",
        shown="the starter evidence base",
    )
    models: PathText = text("", "Folder with one model directory per task", kind="path", shown="the shipped models")
    site_map: SiteMapFile = text(
        "",
        "YAML file that translates the hospital's own codes, see [site-maps.md](site-maps.md)",
        kind="path",
        shown="the shipped maps alone",
    )
    suggestions: SuggestionsFile = text(
        "",
        "YAML or JSON file of the suggestions of cards, see [Suggestions](#suggestions)",
        kind="path",
        shown="the built-in ones",
    )
    offer_risk_assessment: bool = text(
        False, "Offer on every card with an estimate to save it in the record, as RiskAssessment and Provenance"
    )
    readmission_threshold: float = number(
        0.15,
        0,
        1,
        "From this probability a readmission card is a warning and offers suggestions",
        unit="probability",
        above=True,
    )
    mortality_threshold: float = number(0.15, 0, 1, "The same for hospital death", unit="probability", above=True)
    thresholds: Thresholds = text(
        (),
        "Thresholds for one service and task, such as `hospital-risk.readmission_30d=0.2`; before the two above",
        kind="comma-separated SERVICE.TASK=PROBABILITY",
    )
    level_follows: Literal["cautious", "estimate"] = text(
        "cautious",
        "Where the estimate and the best-fitting established score disagree, the card's level follows the higher of "
        "the estimate and the lower end of the score's published risk; `estimate`: the estimate alone",
    )
    time_zone: TimeZone = text(
        "UTC",
        "The hospital's time zone, such as `Europe/Berlin`: a suggestion is due when its day ends there",
        kind="name of a time zone",
    )
    quiet_below_threshold: bool = text(False, "Show no card at all below the threshold (it is kept)")
    warnings_per_100: float = number(
        0.0,
        0,
        100,
        "Cap on warnings among 100 cards of a service for one client in the last day; above it a card informs only",
        unit="warnings per 100 cards",
        zero="no cap",
    )
    snooze_hours: float = number(
        0.0,
        0,
        MAX_SNOOZE_HOURS,
        "After an override, show that user no card on that stay for so many hours, unless a risk moved",
        unit="hours",
        zero="no snooze",
    )
    snooze_delta: float = number(
        0.05, 0, 1, "The change of a probability that ends the snooze", unit="probability", above=True
    )
    mode: Literal["off", "silent", "pilot", "live"] = text(
        "live",
        "`off`, `silent` (estimated and kept, never shown), `pilot` or `live`, until `riskcards mode` sets another",
    )
    pilot_users: Users = text(
        (), "Users who see cards in pilot mode, such as `Practitioner/17`", kind="comma-separated TYPE/ID"
    )
    roles: Roles = text(
        ("Practitioner", "PractitionerRole"),
        "Kinds of users who see cards; all others get `cards: []`",
        kind=f"one or more of {', '.join(USER_TYPES)}",
    )
    max_body_bytes: int = number(10 * 2**20, 1024, 2**30, "Larger request bodies are refused with 413", unit="bytes")
    max_held_bytes: int = number(
        96 * 2**20,
        1024,
        2**40,
        "Bodies that one worker holds at a time, together, at least one of the largest; above it 503",
        unit="bytes",
    )
    max_active: int = number(1, 1, 64, "Hook requests one worker computes at a time", unit="requests")
    max_waiting: int = number(
        32, 0, 1000, "Hook requests that may wait for that; above it 503 at once", unit="requests"
    )
    worker_growth_bytes: int = number(
        512 * 2**20,
        0,
        2**40,
        "A worker whose own memory has grown by this since it began to serve is replaced, its successor first",
        unit="bytes",
        zero="never",
    )
    requests_per_minute: int = number(
        0, 0, 1_000_000, "Rate of each client, in each worker", unit="requests", zero="no limit"
    )
    fetch_seconds: float = number(
        3.0, _SHORTEST, _LONGEST, "Time allowed for fetching one missing prefetch key", unit="seconds"
    )
    deadline_seconds: float = number(
        4.5,
        _SHORTEST,
        _LONGEST,
        "A hook is answered within this, without what was too slow; a card that the database has not taken by then is "
        "not shown (503)",
        unit="seconds",
    )
    store_seconds: float = number(
        2.0,
        _SHORTEST,
        _LONGEST,
        "Time the running service waits for its database at one step: a connection, a lock, a statement",
        unit="seconds",
    )
    remember_seconds: float = number(
        60.0,
        0,
        _LONGEST,
        "A prefetch that comes again byte for byte within this, from the same client for the same patient, is answered "
        "from the assessment cache, as of the first request. Fetched data are never cached",
        unit="seconds",
        zero="no cache",
    )
    note_reader: NoteReaderName = text(
        "rules",
        "The reader of notes besides the rules: `smollm2`, a `.gguf` file, a model folder (with `+ADAPTER`), or "
        "`https://HOST/v1#MODEL`; it reads ahead of the hooks, see [language-models.md](language-models.md)",
    )
    stage1_models: StageModels = text(
        (),
        "Place on this machine of the language model that is the first stage of a model of `RISKCARDS_MODELS`: `NAME`, "
        "or `TASK=NAME`, named as a note reader is. It must be the model used in training, or the service does not "
        "start",
        kind="comma-separated names",
        shown="the name in the model folder",
    )
    note_reader_token_file: PathText = text(
        "", "File with the bearer token of the model server, of first stages too", kind="path"
    )
    note_reader_seconds: float = number(
        60.0, _SHORTEST, 3600, "Time for one answer of the model server", unit="seconds"
    )
    note_reader_threads: int = number(
        0, 0, 1024, "Threads of llama.cpp, where a language model is a `.gguf` file", unit="threads", zero="all cores"
    )
    note_reader_deidentify: bool = text(
        True,
        "Remove what identifies a patient from prompts to a model server, and put it back into the answers, see "
        "[deidentification.md](deidentification.md)",
    )
    refresh_clients: tuple[str, ...] = text(
        (),
        "Names of SMART clients (asymmetric, with `system/` scopes) at whose servers `riskcards refresh` keeps the "
        "estimates of inpatients fresh, see [fresh-scores.md](fresh-scores.md)",
        kind="comma-separated names",
        shown="none",
    )
    refresh_poll_seconds: float = number(
        60.0, 5, 86_400, "Time between two polls of what a server changed (`_lastUpdated`)", unit="seconds"
    )
    refresh_overlap_seconds: float = number(
        120.0,
        0,
        86_400,
        "A poll reads so far back before the last one: servers store resources later than their time stamps say",
        unit="seconds",
    )
    refresh_settle_seconds: float = number(
        30.0, 0, 3600, "A patient is estimated again this long after the first change, with what came since",
        unit="seconds",
    )  # fmt: skip
    refresh_hours: float = number(
        6.0,
        0.25,
        168,
        "An estimate older than this is made again without a change, and is marked as old in the ward list; after "
        "twice as long it is not ranked",
        unit="hours",
    )
    notifications_per_minute: int = number(
        600, 1, 1_000_000, "Subscription notifications of each server, in each worker; above it 429", unit="requests"
    )
    write_back: bool = text(
        False,
        "Let `riskcards refresh` write each new estimate to the record, as RiskAssessment and Provenance; only in "
        "mode `live`, and after a look at `riskcards refresh --dry-run`",
    )
    run_folder: PathText = text(
        "",
        "Folder of the sockets of running services, readable by their user only, by which `riskcards mode` and the "
        "other commands find them, see [Finding the running service](#finding-the-running-service)",
        kind="path",
        shown="`/run/riskcards` if the service may write there, else in the user's runtime or temporary folder",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = text(
        "INFO", "Level of the log; no level logs patient data"
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            faults = [described(fault, type(self).model_fields) for fault in error.errors(include_url=False)]
            raise SettingsError("\n".join(dict.fromkeys(faults))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `from_environment` says which environment and file are read."""
        return (init_settings,)

    @classmethod
    def from_environment(cls, env: Mapping[str, str], config_file: Path | None = None) -> Settings:
        """Defaults, then the file's keys, then the environment. Raises SettingsError."""
        known = {f"{PREFIX}{name.upper()}" for name in cls.model_fields}
        # In another case a variable is not read: one that was meant would be lost silently.
        others = sorted({name for name in env if name.upper().startswith(PREFIX)} - known - _NOT_OURS)
        if others:
            raise SettingsError("\n".join(unknown(name, cls.model_fields) for name in others))
        given: dict[str, Any] = {} if config_file is None else read_settings_file(config_file)
        return cls(**{**given, **Environment(cls, {name: env[name] for name in known & set(env)})()})

    def with_changes(self, **values: Any) -> Settings:
        """These settings with some changed, checked again. Raises SettingsError."""
        return Settings(**{**self.model_dump(), **values})

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        if is_list(field):
            return split(value)
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("true and false are no numbers")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.strip().upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"{PREFIX}MAX_HELD_BYTES: {self.max_held_bytes}; expected at least {PREFIX}MAX_BODY_BYTES, "
                f"{self.max_body_bytes}: the largest body could never be read"
            )
        barred = [pilot for pilot in self.pilot_users if pilot.partition("/")[0] not in self.roles]
        if barred:
            raise ValueError(f"{PREFIX}PILOT_USERS: {barred[0]} is of no type in {PREFIX}ROLES and would see no card")
        return self

    def zone(self) -> tzinfo:
        """The hospital's time zone, in which the day ends that a suggestion is due."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)

    def warnings(self) -> tuple[str, ...]:
        """What is allowed and hardly meant, for the log at start and for `riskcards doctor`."""
        found = []
        if self.mode == "pilot" and not self.pilot_users:
            found.append(f"{PREFIX}MODE is pilot and {PREFIX}PILOT_USERS names nobody: no card is shown to anyone")
        if self.cds_clients and "public_url" not in self.model_fields_set:
            found.append(
                f"{PREFIX}PUBLIC_URL is not set: the `aud` of clients' tokens must then begin with {self.public_url}, "
                "and any other is refused; set it to the address that clients call"
            )
        for name in ("private_networks", "trusted_proxies"):
            found += [
                f"{PREFIX}{name.upper()} has {network}, which is every address: name your own networks"
                for network in getattr(self, name)
                if network.endswith("/0")
            ]
        return tuple(found)

    def thresholds_of(self, service: str, tasks: tuple[str, ...]) -> dict[str, float]:
        """The probability from which each task of a service warns: the service's own threshold, else the task's."""
        by_task = {READMISSION_30D: self.readmission_threshold, IN_HOSPITAL_MORTALITY: self.mortality_threshold}
        own = dict(item.split("=", 1) for item in self.thresholds)
        return {task: float(own.get(f"{service}.{task}", by_task[task])) for task in tasks}

    def stage1_model(self, task: str, trained_with: str) -> str:
        """The first-stage language model of a task's model: the setting for that task, else the setting for all tasks,
        else the name it was trained under."""
        named = dict(stage1_model(item) for item in self.stage1_models)
        return named.get(task) or named.get("") or trained_with

    def alert_policy(self) -> AlertPolicy:
        return AlertPolicy(self.snooze_hours, self.snooze_delta, self.warnings_per_100, self.quiet_below_threshold)

    def store_url(self) -> str:
        """The database URL; by default an SQLite file in the user's data folder."""
        return self.database_url or f"sqlite:///{data_folder() / 'riskcards.db'}"

    def open_store(self, patience: float | None = None, *, keyless: bool = False) -> Store:
        """The database of these settings, see Store. Raises StoreError."""
        key_file = Path(self.database_key_file) if self.database_key_file else None
        return Store(self.store_url(), patience, key_file, keyless=keyless)

    def session_key_path(self) -> Path:
        """The key file for SMART sessions; by default beside the default database."""
        return Path(self.session_key_file) if self.session_key_file else data_folder() / "session.key"
