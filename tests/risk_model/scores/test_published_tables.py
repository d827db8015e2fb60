"""Every edge of every published table, from FHIR: one step below, at, and one step above, in each unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fhir_mapping import PatientRecord
from risk_model.core.values import ScoreResult
from risk_model.scores import hospital_score, mews, news2, qsofa, saps2, sofa
from tests.fhir_mapping.record.test_cases import PATIENT, STAY, observation
from tests.risk_model.scores.test_scores import AT

ICU = {"type": [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}]}
SCORES: dict[str, Callable[[PatientRecord], ScoreResult | None]] = {
    "NEWS2": news2, "NEWS2 (scale 2)": lambda record: news2(record, scale=2), "MEWS": mews, "qSOFA": qsofa, "SOFA": sofa,
    "SAPS II": saps2, "HOSPITAL": hospital_score,
}  # fmt: skip
# LOINC code, unit of the publication, and the lowest and highest value that is tried at an open end.
MEASURED = {
    "rr": ("9279-1", "/min", 3, 60), "spo2": ("2708-6", "%", 60, 100), "sbp": ("8480-6", "mm[Hg]", 40, 260),
    "hr": ("8867-4", "/min", 20, 220), "temp": ("8310-5", "Cel", 30, 42), "gcs": ("9269-2", "{score}", 3, 15),
    "flow": ("3151-8", "L/min", 0, 15), "fio2": ("3150-6", "%", 21, 100), "platelets": ("777-3", "10*3/uL", 2, 900),
    "bilirubin": ("1975-2", "mg/dL", 0.2, 30), "map": ("8478-0", "mm[Hg]", 30, 140), "creatinine": ("2160-0", "mg/dL", 0.3, 12),
    "urine": ("9192-6", "mL", 20, 4000), "bun": ("3094-0", "mg/dL", 3, 180), "wbc": ("6690-2", "10*3/uL", 0.2, 60),
    "k": ("2823-3", "mmol/L", 1.9, 8), "na": ("2951-2", "mmol/L", 110, 170), "hco3": ("1963-8", "mmol/L", 6, 40),
    "hb": ("718-7", "g/dL", 4, 19),
}  # fmt: skip
TABLES = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())


def edges() -> Iterator[tuple[str, dict[str, Any], str, float, int]]:
    """(score, row, unit, value, points) at both ends of each band: a band's end is one step from its neighbour."""
    for table in TABLES:
        for row in table["rows"]:
            own = {"unit": MEASURED[row["see"]][1], "step": row["step"], "bands": row["bands"]}
            for printed in (own, *row.get("units", ())):
                for points, low, high in printed["bands"]:
                    for value in {low, high} - {None}:
                        yield table["score"], row, printed["unit"], value, points


def asked(score: str, row: dict[str, Any], unit: str, value: float) -> ScoreResult:
    given = {name: (other, MEASURED[name][1]) for name, other in row.get("beside", {}).items()}
    given[row["see"]] = (value, unit)
    seen = [
        observation(MEASURED[name][0], number, written, id=f"o-{name}", effectiveDateTime="2024-05-03T10:00:00Z")
        for name, (number, written) in given.items()
    ]
    found = SCORES[score](PatientRecord.from_resources([PATIENT, STAY | ICU, *seen], prediction_time=AT))
    assert found is not None
    return found


@pytest.mark.parametrize(("score", "row", "unit", "value", "expected"), list(edges()))
def test_each_end_of_each_band(score: str, row: dict[str, Any], unit: str, value: float, expected: int) -> None:
    found = asked(score, row, unit, value)
    assert [number for item, _, number in found.inputs if item == row["item"]] == [expected], found
    assert row["item"] not in found.missing


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table["score"])
def test_the_bands_of_a_row_leave_no_hole(table: dict[str, Any]) -> None:
    """One step above a band begins the next: so both ends of each band are one step below, at, and one step above."""
    for row in table["rows"]:
        for printed in (row, *row.get("units", ())):
            for (_, _, high), (_, low, _) in zip(printed["bands"], printed["bands"][1:], strict=False):
                wide = 0.2 if printed.get("unit") == "[degF]" and table["score"] == "NEWS2" else printed["step"]
                assert low - high == pytest.approx(wide), (row["item"], high, low)


@pytest.mark.parametrize(
    ("years", "points"),
    [
        (18, 0),
        (39, 0),
        (40, 7),
        (59, 7),
        (60, 12),
        (69, 12),
        (70, 15),
        (74, 15),
        (75, 16),
        (79, 16),
        (80, 18),
        (101, 18),
    ],
)
def test_saps2_counts_completed_years(years: int, points: int) -> None:
    """Le Gall et al., table 3. Whoever has the birthday a day after the prediction has not completed the year."""
    for born, age in ((f"{AT.year - years}-05-03", years), (f"{AT.year - years - 1}-05-04", years)):
        found = saps2(PatientRecord.from_resources([PATIENT | {"birthDate": born}, STAY | ICU], prediction_time=AT))
        assert found is not None
        assert [(value, number) for item, value, number in found.inputs if item == "age"] == [(f"{age} years", points)]
