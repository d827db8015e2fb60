"""Bulk Data folders: lines in any order, several shards, broken lines reported, interrupted runs resumed."""

from __future__ import annotations

import gzip
import json
import random
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import InvalidInputError, PatientRecord
from fhir_mapping.bulk import BUNDLES, LINES, ExportFault, PatientPartitions, partition_by_patient, partitioning
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, observation

BED = {"resourceType": "Location", "id": "bed", "partOf": {"reference": "Location/ward"}}
WARD = {"resourceType": "Location", "id": "ward", "type": [{"coding": [{"code": "ICU"}]}]}


def chart(patient: str) -> list[dict[str, Any]]:
    owner = {"subject": {"reference": f"Patient/{patient}"}}
    stay = (
        STAY
        | owner
        | {"id": f"s-{patient}", "location": [{"location": {"reference": "Location/bed"}, "period": STAY["period"]}]}
    )
    return [PATIENT | {"id": patient}, stay, observation(id=f"o-{patient}") | owner]


def export(folder: Path, patients: int, shards: int = 2) -> list[dict[str, Any]]:
    """Writes `patients` charts in random order, one file for each type and shard, every second one compressed."""
    resources = [r for number in range(patients) for r in chart(f"p{number}")] + [BED, WARD]
    random.Random(7).shuffle(resources)
    folder.mkdir(exist_ok=True)
    for kind in {r["resourceType"] for r in resources}:
        for shard in range(shards):
            mine = [r for n, r in enumerate(r for r in resources if r["resourceType"] == kind) if n % shards == shard]
            raw = b"".join(orjson.dumps(r) + b"\n" for r in mine)
            if shard % 2:
                (folder / f"{kind}.{shard}.ndjson.gz").write_bytes(gzip.compress(raw))
            else:
                (folder / f"{kind}.{shard}.ndjson").write_bytes(raw)
    return resources


def records(folder: Path, work: Path) -> dict[str, PatientRecord]:
    found = list(partition_by_patient(folder, work).patients(AT))
    assert all(isinstance(item, PatientRecord) for item in found), found
    return {item.subject_id: item for item in found if isinstance(item, PatientRecord)}


def test_every_patient_is_read_once_with_all_resources(tmp_path: Path) -> None:
    export(tmp_path / "in", 40)
    found = records(tmp_path / "in", tmp_path / "work")
    assert set(found) == {f"p{number}" for number in range(40)}
    for name, record in found.items():
        resources = [*chart(name), BED, WARD]
        alone = PatientRecord.from_resources(resources, prediction_time=AT, not_fetched=record.not_fetched)
        assert record.features() == alone.features()
        assert record.features().number("intensive_care.last") == 1  # the ward of the bed is in another file
        assert "Procedure" in record.not_fetched  # not exported, which is not "none found"


BROKEN: list[tuple[str, bytes, str]] = [
    ("cut", b'{"resourceType": "Obser', "Observation.0.ndjson:3"),
    ("no object", b"[1]", "Observation.0.ndjson:3"),
    ("no type", b'{"id": "x"}', "Observation.0.ndjson:3"),
    ("no subject", b'{"resourceType": "Observation", "id": "x"}', "Observation.0.ndjson:3"),
    ("elsewhere", b'{"resourceType": "Observation", "subject": {"reference": "https://e/Patient/p1"}}', "Observation.0.ndjson:3"),
    ("not UTF-8", b'{"resourceType": "Observation", "x": "\xff"}', "Observation.0.ndjson:3"),
    ("endless nest", b'{"resourceType": "Observation", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "Observation.0.ndjson:3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line", "place"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_line_is_reported_and_all_others_are_kept(tmp_path: Path, name: str, line: bytes, place: str) -> None:
    export(tmp_path / "in", 10)
    path = tmp_path / "in" / "Observation.0.ndjson"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    partitions = partition_by_patient(tmp_path / "in", tmp_path / "work")
    assert [fault.place for fault in partitions.faults] == [place]
    assert partitions.fault_count == 1
    found = list(partitions.patients(AT))
    assert len(found) == 10
    assert all(isinstance(item, PatientRecord) and item.measurements for item in found)


def test_a_truncated_gzip_file_is_read_as_far_as_possible(tmp_path: Path) -> None:
    export(tmp_path / "in", 200)
    path = tmp_path / "in" / "Observation.1.ndjson.gz"
    path.write_bytes(path.read_bytes()[:-40])
    partitions = partition_by_patient(tmp_path / "in", tmp_path / "work")
    assert partitions.faults[0].place.startswith("Observation.1.ndjson.gz:")
    assert "cannot be read any further" in partitions.faults[0].reason


def test_resources_of_a_missing_patient_are_reported(tmp_path: Path) -> None:
    export(tmp_path / "in", 3)
    (tmp_path / "in" / "more.ndjson").write_bytes(orjson.dumps(chart("ghost")[2]))
    found = list(partition_by_patient(tmp_path / "in", tmp_path / "work").patients(AT))
    assert [item.place for item in found if isinstance(item, ExportFault)] == ["Patient/ghost"]
    assert sum(isinstance(item, PatientRecord) for item in found) == 3


def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path / "in", 30)
    expected = {name: record.features() for name, record in records(tmp_path / "in", tmp_path / "whole").items()}
    real, partitions = partitioning._partition_file, []

    def stopping(path: Path, *rest: Any) -> None:
        if len(partitions) == 3:
            with (tmp_path / "work" / "bucket-000.ndjson").open("ab") as stream:
                stream.write(b"half a li")
            raise KeyboardInterrupt
        partitions.append(path.name)
        real(path, *rest)

    monkeypatch.setattr(partitioning, "_partition_file", stopping)
    with pytest.raises(KeyboardInterrupt):
        partition_by_patient(tmp_path / "in", tmp_path / "work")
    monkeypatch.setattr(
        partitioning, "_partition_file", lambda path, *rest: (partitions.append(path.name), real(path, *rest))
    )
    found = records(tmp_path / "in", tmp_path / "work")
    assert len(partitions) == len(set(partitions)) == len(list((tmp_path / "in").iterdir()))  # none was processed twice
    assert {name: record.features() for name, record in found.items()} == expected


def test_a_changed_input_starts_a_new_run(tmp_path: Path) -> None:
    export(tmp_path / "in", 5)
    records(tmp_path / "in", tmp_path / "work")
    export(tmp_path / "in", 8)
    assert len(records(tmp_path / "in", tmp_path / "work")) == 8


def note(patient: str, url: str) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": f"d-{patient}",
        "status": "current",
        "subject": {"reference": f"Patient/{patient}"},
        "date": "2024-05-01T08:00:00Z",
        "content": [{"attachment": {"contentType": "text/plain", "url": url}}],
    }


def binary(name: str, text: bytes) -> dict[str, Any]:
    return {"resourceType": "Binary", "id": name, "contentType": "text/plain", "data": b64encode(text).decode()}


def test_a_note_gets_only_its_own_binary_from_another_file(tmp_path: Path) -> None:
    """A Binary has no subject, and all of an export do not fit into memory."""
    export(tmp_path / "in", 2)
    files = {"a": binary("b0", b"Short of breath."), "b": binary("b1", b"No chest pain."), "c": note("p0", "Binary/b0")}
    files["d"] = note("p1", "Binary/gone")
    for name, resource in files.items():
        (tmp_path / "in" / f"{name}.ndjson").write_bytes(orjson.dumps(resource))
    found = records(tmp_path / "in", tmp_path / "work")
    assert [note.text for note in found["p0"].notes()] == ["Short of breath."]
    assert [(note.text, note.reason) for note in found["p1"].notes()] == [("", "url-not-fetched")]
    (tmp_path / "in" / "a.ndjson").write_bytes(orjson.dumps(binary("other", b"Another export.")))
    assert records(tmp_path / "in", tmp_path / "work")["p0"].notes()[0].reason == "url-not-fetched"


@pytest.mark.parametrize(
    ("request_url", "url", "reason"),
    [
        ("https://EHR.example:443/fhir/$export", "https://ehr.example/fhir/Binary/b0", None),
        ("https://ehr.example/fhir/Group/g1/$export?_since=2024", "http://ehr.example/fhir/Binary/b0/_history/2", None),
        ("https://ehr.example/fhir/Patient/$export", "https://other.example/fhir/Binary/b0", "url-of-unknown-server"),
        (None, "https://ehr.example/fhir/Binary/b0", "url-of-unknown-server"),
        (None, "https://ehr.example/fhir/Binary/b1", "url-not-fetched"),
    ],
)
def test_a_binary_at_an_absolute_url_is_found_by_the_manifest(
    tmp_path: Path, request_url: str | None, url: str, reason: str | None
) -> None:
    export(tmp_path / "in", 1)
    for resource in (binary("b0", b"Short of breath."), note("p0", url)):
        (tmp_path / "in" / f"{resource['id']}.ndjson").write_bytes(orjson.dumps(resource))
    if request_url is not None:
        manifest = {"transactionTime": "2024-05-02T00:00:00Z", "request": request_url, "output": []}
        (tmp_path / "in" / "manifest.json").write_bytes(orjson.dumps(manifest))
    (found,) = records(tmp_path / "in", tmp_path / "work")["p0"].notes()
    assert (found.text, found.reason) == (("Short of breath.", None) if reason is None else ("", reason))


def test_an_absolute_subject_on_the_export_server_is_resolved(tmp_path: Path) -> None:
    export(tmp_path / "in", 1)
    manifest = {"transactionTime": "", "request": "https://ehr.example/fhir/$export", "output": []}
    (tmp_path / "in" / "manifest.json").write_bytes(orjson.dumps(manifest))
    path = tmp_path / "in" / "Observation.0.ndjson"
    path.write_bytes(path.read_bytes().replace(b'"Patient/p0"', b'"https://ehr.example/fhir/Patient/p0"'))
    (record,) = records(tmp_path / "in", tmp_path / "work").values()
    assert record.measurements


def test_bundles_on_lines_have_references_on_the_export_server(tmp_path: Path) -> None:
    """The references of a Bundle on a line were left absolute, and its resources lost their patient."""
    export(tmp_path / "in", 1)
    manifest = {"transactionTime": "", "request": "https://ehr.example/fhir/$export", "output": []}
    (tmp_path / "in" / "manifest.json").write_bytes(orjson.dumps(manifest))
    subject = {"subject": {"reference": "https://ehr.example/fhir/Patient/p0"}}
    earlier = {"effectiveDateTime": "2024-05-01T10:00:00Z"}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": observation(id="b") | subject | earlier}],
    }
    (tmp_path / "in" / "bundles.ndjson").write_bytes(orjson.dumps(bundle))
    (record,) = records(tmp_path / "in", tmp_path / "work").values()
    assert {item.source for item in record.measurements} == {"Observation/o-p0", "Observation/b"}


@pytest.mark.parametrize("content", [None, b'{"resourceType": "Location", "id": "l"}'])
def test_a_folder_without_patients_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "in").mkdir()
    if content is not None:
        (tmp_path / "in" / "a.ndjson").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"no file in this folder|no Patient"):
        partition_by_patient(tmp_path / "in", tmp_path / "work")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4))
def test_any_number_of_files_gives_the_same_patients(patients: int, shards: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        export(Path(scratch) / "in", patients, shards)
        assert len(records(Path(scratch) / "in", Path(scratch) / "work")) == patients


def bundle(*resources: dict[str, Any], **more: Any) -> str:
    return json.dumps(
        {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in resources], **more}
    )


def bundles(tmp_path: Path, *contents: str) -> PatientPartitions:
    folder = tmp_path / "bundles"
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number}.json").write_text(content, "utf-8")
    return partition_by_patient(folder, tmp_path / "work", suffixes=LINES + BUNDLES)


def test_a_bundle_has_none_of_what_it_does_not_hold_unless_it_says_so(tmp_path: Path) -> None:
    whole = bundle(*chart("a"))
    more_pages = bundle(*chart("b"), link=[{"relation": "next", "url": "https://ehr.example.org/fhir?page=2"}])
    dealt = bundles(tmp_path, whole, more_pages)
    assert dealt.not_fetched_of("a") == frozenset()
    assert "Observation" in dealt.not_fetched_of("b")
    assert dealt.fault_count == 0


def test_an_incomplete_bundle_of_many_patients_leaves_each_of_them_incomplete(tmp_path: Path) -> None:
    link = [{"relation": "next", "url": "https://ehr.example.org/fhir?page=2"}]
    dealt = bundles(tmp_path, bundle(*chart("a")), bundle(*chart("b"), *chart("c"), link=link))
    assert all("Observation" in dealt.not_fetched_of(patient) for patient in "abc")


def test_every_bundle_has_its_own_wards(tmp_path: Path) -> None:
    wards = [{"resourceType": "Location", "id": "1", "name": name} for name in ("Surgery", "Intensive care")]
    visits = [
        {"resourceType": "Encounter", "id": "e", "subject": {"reference": f"Patient/{patient}"},
         "location": [{"location": {"reference": "Location/1"}}]} for patient in "ab"
    ]  # fmt: skip
    dealt = bundles(tmp_path, bundle(*chart("a"), wards[0], visits[0]), bundle(*chart("b"), wards[1], visits[1]))
    names = {
        patient: [json.loads(line).get("name") for line in lines if b'"Location"' in line and b"Encounter" not in line]
        for number in range(dealt.buckets)
        for patient, lines in dealt.charts(number)
    }
    assert names == {"a": ["Surgery"], "b": ["Intensive care"]}
