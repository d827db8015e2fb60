"""Two ways to the same answer: every way into a record, both databases, a language model that says nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_service.store.store import Store
from fhir_mapping import PatientRecord
from fhir_mapping.record.meds import meds_events
from risk_model import Pipeline
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.notes.rule_reader import RuleNoteReader
from tests.cds_service.store.conftest import postgres  # noqa: F401
from tests.cds_service.store.test_store import card
from tests.fhir_mapping.record.test_cases import AT
from tests.property.test_cutoff import WAYS, Chart, charts, said
from tests.risk_model.language_fakes import SaysModel, rambles, refuses

SOME = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def in_no_order(record: PatientRecord) -> dict[str, Any]:
    """What a record says; sources of one value, and what has one time, stand in the order of the input."""
    found = said(record)
    found["values"] = {
        name: replace(value, sources=tuple(sorted(value.sources))) for name, value in found["values"].items()
    }
    found["meds"] = sorted(found["meds"], key=repr)
    return found | {name: sorted(found[name].split("\n")) for name in ("markdown", "codes")}


@SOME
@given(charts())
def test_a_record_is_the_same_by_every_way_in(chart: Chart) -> None:
    """Resources, list, entries, NDJSON, bundle with URNs, prefetch, cohort row and the app's course."""
    records = {name: way(copy.deepcopy(chart.as_known)) for name, way in WAYS.items()}
    first = in_no_order(records["resources"])
    for name, record in records.items():
        found = in_no_order(record)
        for part, expected in first.items():
            assert found[part] == expected, (name, part)


@SOME
@given(charts())
def test_the_events_of_a_record_are_those_of_its_export(chart: Chart) -> None:
    """Values, diagnoses and stays of a record have their events, none later than it; each once."""
    record = PatientRecord.from_resources(copy.deepcopy(chart.as_known), "p", AT)
    rows = record.to_meds()
    assert len(rows) == len(list(meds_events(record)))
    times = [datetime.fromisoformat(row["time"]) for row in rows if row["time"] is not None]
    assert max(time.replace(tzinfo=UTC) for time in times) <= AT
    numbers = sorted(row["numeric_value"] for row in rows if row["code"].startswith("LOINC//") and row["numeric_value"])
    assert numbers == pytest.approx(sorted(m.value for m in record.measurements))
    starts = [row for row in rows if row["code"].startswith("ENCOUNTER//") and row["code"].endswith("//START")]
    assert len(starts) == len(record.encounters)


# The store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[tuple[Store, Store]]:  # noqa: F811
    folder: Path = tmp_path_factory.mktemp("stores")
    key = folder / "shared.key"
    opened = Store(f"sqlite:///{folder}/s.db", key_file=key), Store(postgres, key_file=key)
    yield opened
    for store in opened:
        store.close()


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["card", "feedback", "outcome", "mode", "token"]),
        st.integers(0, 3),
        st.sampled_from(["info", "warning"]),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(DEEDS, st.uuids())
def test_both_databases_give_the_same_answers(stores: tuple[Store, Store], deeds: list[Any], example: Any) -> None:
    since = datetime(2020, 1, 1, tzinfo=UTC)
    cards = [card(service=f"s-{example}", patient=f"p{n % 2}-{example}", user=f"Practitioner/{n}") for n in range(4)]
    answers: list[list[Any]] = []
    for store in stores:
        given_back: list[Any] = []
        made: set[int] = set()
        for deed, number, indicator, truth in deeds:
            about = cards[number]
            if deed == "card" and number not in made:
                store.record_card(about)
                made.add(number)
            elif deed == "feedback" and number in made:
                entry = {"card": about.uuid, "outcome": "overridden" if truth else "accepted", "n": indicator}
                given_back.append(store.add_feedback([entry, entry]))
            elif deed == "outcome" and number in made:
                given_back.append(store.add_outcomes([(about.uuid, "readmission_30d", truth)]))
            elif deed == "mode":
                store.set_mode(about.service, f"t{number}", "silent" if truth else "on", "why")
            elif deed == "token":
                given_back.append(store.first_use(str(example), str(number), datetime(2100, 1, 1, tzinfo=UTC)))
        for about in cards:
            override = store.last_override(about.patient, about.encounter, about.user, about.service)
            given_back += [
                store.card_service(about.uuid), store.suggestions_of(about.uuid), store.card_record(about.uuid),
                store.hook_of(about.uuid), None if override is None else override.probabilities,
            ]  # fmt: skip
        given_back += [
            store.warned_since(cards[0].service, since),
            [entry for entry in store.feedback() if entry["card"] in {c.uuid for c in cards}],
            {place: mode for place, mode in store.modes().items() if place[0] == cards[0].service},
            store.verify_audit().fault,
        ]
        answers.append(given_back)
    assert answers[0] == answers[1]


# Rules alone, and rules beside a language model that says nothing


@pytest.fixture(scope="module")
def shipped() -> Pipeline:
    return Pipeline.shipped()


NOTES = st.lists(
    st.sampled_from(
        ["Patient has pneumonia.", "No fever, no chest pain.", "Na 128, K 5.9.", "Father had a stroke.",
         "Creatinine 2.1 yesterday", "Discharge planned.", "History of COPD; denies cough."]
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.mark.parametrize("silent", [refuses, rambles, lambda _: "", lambda _: "{}"])
def test_a_silent_language_model_changes_nothing(silent: Any, shipped: Pipeline) -> None:
    assert isinstance(shipped.reader, RuleNoteReader)
    beside = LanguageNoteReader(SaysModel(silent), shipped.reader)

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(NOTES)
    def same(sentences: list[str]) -> None:
        from tests.risk_model.llm_reader.test_note_reader import note

        alone, both = shipped.reader.read([note(" ".join(sentences))]), beside.read([note(" ".join(sentences))])
        assert both.findings == alone.findings
        assert both.values == alone.values

    same()
