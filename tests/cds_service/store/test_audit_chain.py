"""The audit chain on both databases: it covers what is stored and detects changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from cds_service.store import audit
from cds_service.store.engine import open_engine
from cds_service.store.key import StoreKey
from cds_service.store.reconcile import Reconciliation
from cds_service.store.store import CardRecord, Store
from tests.cds_service.store.test_store import card

CHANGES = [
    ("content", "UPDATE audit SET body = '{}' WHERE seq = 3", "entry 3: its content was changed"),
    (
        "content and its hash",
        "UPDATE audit SET body = '{}', "
        "body_hash = '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a' WHERE seq = 3",
        "entry 3: it does not follow",
    ),
    ("who", "UPDATE audit SET subject = 'x' WHERE seq = 2", "entry 2: it does not follow"),
    ("when", "UPDATE audit SET at = '2020' WHERE seq = 2", "entry 2: it does not follow"),
    ("taken out", "DELETE FROM audit WHERE seq = 3", "entry 3 is missing"),
    ("the first", "DELETE FROM audit WHERE seq = 1", "entry 1 is missing"),
]


@pytest.mark.parametrize(("name", "statement", "fault"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_changed_chain_names_the_entry(store: Store, url: str, name: str, statement: str, fault: str) -> None:
    for _ in range(5):
        store.record_card(card())
    assert store.verify_audit().fault is None
    assert store.verify_audit().entries == 5
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    found = store.verify_audit()
    assert found.fault is not None
    assert found.fault.startswith(fault)


BESIDE = [
    ("a card's body emptied", "UPDATE audit SET body = NULL WHERE seq = 2", "entry 2: its content was removed"),
    ("a card edited", "UPDATE cards SET summary_kind = 'info'", "entry 1: its card was changed"),
    ("a card's patient", "UPDATE cards SET patient_hash = 'x'", "entry 1: its card was changed"),
    ("an estimate edited", "UPDATE estimates SET probability = 0.9", "entry 1: the estimates"),
    ("an estimate deleted", "DELETE FROM estimates", "entry 1: the estimates"),
    ("feedback edited", "UPDATE feedback SET body = '{}'", "entry 3: its feedback was changed"),
    ("feedback deleted", "DELETE FROM feedback", "entry 3: its feedback was deleted"),
    ("a mode flipped", "UPDATE modes SET mode = 'live'", "mode of */*: live is set, the chain says off"),
    ("a mode deleted", "DELETE FROM modes", "mode of */*: none is set, the chain says off"),
    ("an outcome flipped", "UPDATE outcomes SET happened = 0", "outcome of card"),
    ("an outcome deleted", "DELETE FROM outcomes", "outcome of card"),
    ("whose overrides count", "UPDATE cards SET scope_hash = 'x'", "entry 1: its card was changed"),
    ("a card's stay", "UPDATE cards SET stay_hash = 'x'", "entry 1: its card was changed"),
    ("a card's client", "UPDATE cards SET client = 'x'", "entry 1: its card was changed"),
    ("a card's time", "UPDATE cards SET created = '2020-01-01 00:00:00'", "entry 1: its card was changed"),
    ("an estimate's model", "UPDATE estimates SET model = 'm 2'", "entry 1: the estimates"),
    ("an estimate's drivers", "UPDATE estimates SET drivers = '{}'", "entry 1: the estimates"),
    ("an estimate's task", "UPDATE estimates SET task = 'x'", "entry 1: the estimates"),
    ("suggestions deleted", "DELETE FROM suggestions", "entry 1: the suggestions"),
    ("a suggestion changed", "UPDATE suggestions SET uuid = 'x' || substr(uuid, 2)", "entry 1: the suggestions"),
    ("when feedback came", "UPDATE feedback SET received = '2020-01-01 00:00:00'", "entry 3: its feedback was changed"),
    ("a mode's reason", "UPDATE modes SET reason = 'x'", "mode of */*: its reason or time"),
    ("a mode's time", "UPDATE modes SET changed = '2020-01-01 00:00:00'", "mode of */*: its reason or time"),
    ("another tenant's mode", "UPDATE modes SET tenant = 'north'", "mode of */north: off is set, the chain says none"),
    ("when an outcome came", "UPDATE outcomes SET received = '2020-01-01 00:00:00'", "outcome of card"),
    ("an outcome of no card", "UPDATE outcomes SET card = 'x'", "outcome of card"),
    ("an outcome of another task", "UPDATE outcomes SET task = 'x'", "outcome of card"),
    ("a seal taken off", "UPDATE audit SET seal = NULL WHERE seq = 3", "entry 3: its seal"),
    ("a seal changed", "UPDATE audit SET seal = hash WHERE seq = 2", "entry 2: its seal"),
]  # fmt: skip


def audited(store: Store) -> CardRecord:
    """Two cards, feedback, a mode and an outcome; returns the first card."""
    first = card()
    for each in (first, card()):
        store.record_card(each)
    store.add_feedback([{"card": first.uuid, "outcome": "overridden"}])
    store.set_mode("*", "*", "silent", "")
    store.set_mode("*", "*", "off", "")
    store.add_outcomes([(first.uuid, "readmission_30d", True)])
    return first


@pytest.mark.parametrize(("name", "statement", "fault"), BESIDE, ids=[row[0] for row in BESIDE])
def test_what_is_changed_beside_the_chain_shows(store: Store, url: str, name: str, statement: str, fault: str) -> None:
    """All of these passed `audit verify --head`."""
    audited(store)
    assert store.verify_audit().fault is None
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    found = store.verify_audit().fault
    assert found is not None
    assert found.startswith(fault)


def test_a_deleted_and_an_inserted_card_show(store: Store, url: str) -> None:
    first = audited(store)
    engine = open_engine(url)
    copy = "SELECT 'new', created, service, hook_instance, patient_hash, summary_kind, shown FROM cards LIMIT 1"
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO cards (uuid, created, service, hook_instance, patient_hash, summary_kind, shown) {copy}")
        )
    assert store.verify_audit().fault == "3 cards are stored, 2 are in the chain"
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM cards WHERE uuid = 'new'"))
        for table in ("estimates", "suggestions", "feedback", "outcomes"):
            connection.execute(text(f"DELETE FROM {table} WHERE card = '{first.uuid}'"))
        connection.execute(text(f"DELETE FROM cards WHERE uuid = '{first.uuid}'"))
    engine.dispose()
    assert store.verify_audit().fault == "entry 1: its card was deleted"


@pytest.mark.parametrize("sealed", [True, False])
def test_a_chain_made_without_the_key_shows(store: Store, url: str, *, sealed: bool) -> None:
    """A whole new chain, hashes and all, by someone who may write to the database but has no key.

    Without any seal it was taken for one from before there were seals.
    """
    audited(store)
    engine = open_engine(url)
    forger = StoreKey("0" * 64)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit"))
        audit.append(connection, forger, "mode", "*/*", {"mode": "off", "reason": ""})
        if not sealed:
            connection.execute(text("UPDATE audit SET seal = NULL"))
    engine.dispose()
    assert store.verify_audit().fault == "entry 1: its seal is not of this service's key"


def test_entries_name_the_user_and_the_operator(store: Store) -> None:
    first = audited(store)
    store.add_feedback([{"card": first.uuid, "outcome": "accepted"}], "Practitioner/u1")
    store.set_mode("*", "*", "live", "", "anna")
    store.add_outcomes([], "anna")
    store.purge(datetime.now(UTC) - timedelta(days=365), "anna")
    named = {entry.kind: entry.body for entry in store.audit_entries()}
    user = store.user_hash("Practitioner/u1")
    assert {kind: (body or {}).get("user_hash") or (body or {}).get("by") for kind, body in named.items()} == {
        "card": user, "feedback": user, "mode": "anna", "outcomes": "anna", "purge": "anna"
    }  # fmt: skip
    assert "Practitioner/u1" not in str(named)


def test_long_tenants_are_distinguished(store: Store) -> None:
    """The subject of an entry has 64 characters: two tenants whose names begin alike were one mode to the chain."""
    for tenant, mode in ((f"{'region-' * 12}north", "off"), (f"{'region-' * 12}south", "live")):
        store.set_mode("hospital-risk", tenant, mode, "")
    assert store.verify_audit().fault is None
    store.set_mode("hospital-risk", f"{'region-' * 12}north", "silent", "")
    assert store.verify_audit().fault is None


def test_what_is_stored_during_a_verification_breaks_nothing(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL each query saw what had come meanwhile: `2 cards are stored, 1 are in the chain`."""
    audited(store)
    entries, rest, writer = store.verify_audit().entries, Reconciliation.rest, Store(url)

    def later(look: Reconciliation) -> str | None:
        writer.record_card(card())
        writer.set_mode("*", "*", "live", "")
        return rest(look)

    monkeypatch.setattr(Reconciliation, "rest", later)
    assert (store.verify_audit().entries, store.verify_audit().fault) == (entries, None)
    writer.close()


def test_many_writers_make_one_chain(url: str) -> None:
    stores = [Store(url) for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda i: stores[i % 3].record_card(card()), range(60)))
    found = stores[0].verify_audit()
    assert (found.entries, found.fault) == (60, None)
    for store in stores:
        store.close()
