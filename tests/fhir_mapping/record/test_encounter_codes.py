"""Codes of Encounters: all codings count, each by its own system; classes that are not understood are never "none"."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from fhir_mapping import FeatureVector, PatientRecord, StayClass
from fhir_mapping.terminology.encounter_codes import _tables, normalised
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY

Resource = dict[str, Any]
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
SOURCE = "http://terminology.hl7.org/CodeSystem/admit-source"
NUBC = "https://www.nubc.org/CodeSystem/PatDischargeStatus"
POINT = "https://www.nubc.org/CodeSystem/PointOfOrigin"
PRIORITY = "http://terminology.hl7.org/CodeSystem/v3-ActPriority"
DE = "http://fhir.de/CodeSystem/dkgev/EntlassungsgrundErsteUndZweiteStelle"
ANLASS = "http://fhir.de/CodeSystem/dgkev/Aufnahmeanlass"
UK = "https://fhir.hl7.org.uk/CodeSystem/UKCore-DischargeDestinationEngland"
UK_METHOD = "https://fhir.hl7.org.uk/CodeSystem/UKCore-AdmissionMethodEngland"
UK_SOURCE = "https://fhir.hl7.org.uk/CodeSystem/UKCore-SourceOfAdmissionEngland"
CH = "http://fhir.ch/ig/ch-core/CodeSystem/bfs-medstats-"
LOCAL = "urn:oid:1.2.3.4.5.18888"
OVER = {"status": "finished", "period": STAY["period"] | {"end": AT.isoformat()}}


def concept(*codings: tuple[str | None, str]) -> Resource:
    return {"coding": [{"code": code} | ({"system": system} if system else {}) for system, code in codings]}


def features(*encounters: Resource, **options: Any) -> FeatureVector:
    return PatientRecord.from_resources([PATIENT, *encounters], "p", AT, **options).features()


def answer(vector: FeatureVector, name: str) -> Any:
    found = vector.values.get(name)
    return vector.unknown[name] if found is None else found.value


DISPOSITIONS: list[tuple[str, Resource, str]] = [
    ("HL7", concept((DISPOSITION, "exp")), "died"),
    ("HL7 of STU3", concept(("http://hl7.org/fhir/discharge-disposition", "snf")), "facility"),
    ("HL7 with a version", concept((f"{DISPOSITION}|4.0.1", "hosp")), "hospice"),
    ("a word without a system", concept((None, "exp")), "died"),
    ("a number without a system", concept((None, "20")), "code-not-understood"),
    ("NUBC", concept((NUBC, "20")), "died"),
    ("NUBC of CMS", concept(("https://bluebutton.cms.gov/resources/variables/ptnt_dschrg_stus_cd", "3")), "facility"),
    ("NUBC, planned readmission", concept((NUBC, "82")), "transfer"),
    ("v2-0112 by its OID", concept(("urn:oid:2.16.840.1.113883.12.112", "07")), "against_advice"),
    ("local 20", concept((LOCAL, "20")), "code-not-understood"),
    ("local exp", concept((LOCAL, "exp")), "code-not-understood"),
    ("text only", {"text": "Expired"}, "code-not-understood"),
    ("absent", {}, "not-coded"),
    ("known and local", concept((LOCAL, "20"), (NUBC, "01")), "home"),
    ("general and precise", concept((DISPOSITION, "home"), (NUBC, "06")), "home"),
    ("other and precise", concept((DISPOSITION, "oth"), (NUBC, "62")), "facility"),
    ("a contradiction", concept((DISPOSITION, "home"), (NUBC, "20")), "codes-disagree"),
    ("German: death is 07, not against advice", concept((DE, "07")), "died"),
    ("German: 04 against advice", concept((DE, "04")), "against_advice"),
    ("German: 20 readmission", concept((DE, "20")), "code-not-understood"),
    ("UK: 51 another hospital", concept((UK, "51")), "transfer"),
    ("UK: 79 died", concept((UK, "79")), "died"),
    ("UK: 19 home", concept((UK, "19")), "home"),
    ("UK, before UK Core", concept(("https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-DischargeDestination-1", "88")), "hospice"),
    ("Swiss: 0 death", concept((f"{CH}28-dischargedestination", "0")), "died"),
    ("Swiss: 2 nursing home, not a hospital", concept((f"{CH}28-dischargedestination", "2")), "facility"),
    ("SNOMED CT", concept(("http://snomed.info/sct", "371828006")), "died"),
    ("a very long code", concept((NUBC, "0" * 100_000 + "20")), "code-not-understood"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "coded", "expected"), DISPOSITIONS, ids=[row[0] for row in DISPOSITIONS])
def test_a_disposition_means_what_its_own_system_says(name: str, coded: Resource, expected: str) -> None:
    for element in ("hospitalization", "admission"):
        found = features(STAY | OVER | {element: {"dischargeDisposition": coded}}, encounter_id="stay")
        assert answer(found, "discharge_disposition.last") == expected


def test_national_profiles_keep_dispositions_in_extensions() -> None:
    german = {
        "url": "http://fhir.de/StructureDefinition/Entlassungsgrund",
        "extension": [
            {"url": "ErsteUndZweiteStelle", "valueCoding": {"system": DE, "code": "07"}},
            {"url": "DritteStelle", "valueCoding": {"system": f"{DE[:-22]}DritteStelle", "code": "1"}},
        ],
    }
    swiss = {"url": "x", "valueCoding": {"system": f"{CH}28-dischargedestination", "code": "5"}}
    for hospitalization, expected in (
        ({"dischargeDisposition": {"extension": [german]}}, "died"),
        ({"extension": [swiss], "dischargeDisposition": concept((f"{CH}29-dischargeencounter", "1"))}, "facility"),
        ({"extension": [{"url": "x", "valueCoding": {"system": LOCAL, "code": "20"}}]}, "not-coded"),
    ):
        found = features(STAY | OVER | {"hospitalization": hospitalization}, encounter_id="stay")
        assert answer(found, "discharge_disposition.last") == expected


SOURCES: list[tuple[str, Resource, str]] = [
    ("HL7", concept((SOURCE, "emd")), "emergency"),
    ("HL7 outpatient", concept((SOURCE, "outp")), "referral"),
    ("v2-0023: 1 is a physician's referral", concept(("http://terminology.hl7.org/CodeSystem/v2-0023", "1")), "referral"),
    ("NUBC: 1 is no facility", concept((POINT, "1")), "home"),
    ("local 1", concept((LOCAL, "1")), "code-not-understood"),
    ("1 without a system", concept((None, "1")), "code-not-understood"),
    ("German E", concept((ANLASS, "E")), "referral"),
    ("German N", concept((ANLASS, "N")), "emergency"),
    ("German V", concept((ANLASS, "V")), "hospital_transfer"),
    ("UK 51", concept((UK_SOURCE, "51")), "hospital_transfer"),
    ("Swiss 6", concept((f"{CH}17-admitsource", "6")), "hospital_transfer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "coded", "expected"), SOURCES, ids=[row[0] for row in SOURCES])
def test_a_source_means_what_its_own_system_says(name: str, coded: Resource, expected: str) -> None:
    assert answer(features(STAY | {"hospitalization": {"admitSource": coded}}), "admission_source.last") == expected


PRIORITIES: list[tuple[str, Resource, Any]] = [
    ("ActPriority R", {"priority": concept((PRIORITY, "R"))}, 0.0),
    ("ActPriority EM", {"priority": concept((PRIORITY, "EM"))}, 1.0),
    ("ActPriority of STU3", {"priority": concept(("http://hl7.org/fhir/v3/ActPriority", "UR"))}, 1.0),
    ("local R", {"priority": concept((LOCAL, "R"))}, "code-not-understood"),
    ("R without a system", {"priority": concept((None, "R"))}, "code-not-understood"),
    ("local first", {"priority": concept((LOCAL, "R"), (PRIORITY, "EM"))}, 1.0),
    ("v2-0007 R is routine", {"priority": concept(("http://terminology.hl7.org/CodeSystem/v2-0007", "R"))}, 0.0),
    ("v2-0007 E", {"priority": concept(("urn:oid:2.16.840.1.113883.12.7", "E"))}, 1.0),
    ("Swiss 2 planned", {"priority": concept((f"{CH}18-admittype", "2"))}, 0.0),
    ("UK 21 in an extension", {"extension": [{"url": "x", "valueCodeableConcept": concept((UK_METHOD, "21"))}]}, 1.0),
    ("UK 11 waiting list", {"hospitalization": {"extension": [{"url": "x", "valueCodeableConcept": concept((UK_METHOD, "11"))}]}}, 0.0),
    ("callback says nothing", {"priority": concept((PRIORITY, "CR"))}, "code-not-understood"),
    ("a contradiction", {"priority": concept((PRIORITY, "EM"), (PRIORITY, "EL"))}, "codes-disagree"),
    ("by source", {"hospitalization": {"admitSource": concept((LOCAL, "7"), (ANLASS, "N"))}}, 1.0),
    ("not coded", {}, "not-coded"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "expected"), PRIORITIES, ids=[row[0] for row in PRIORITIES])
def test_a_priority_means_what_its_own_system_says(name: str, change: Resource, expected: Any) -> None:
    assert answer(features(STAY | change), "acute_admission.last") == expected


def test_the_order_of_codings_has_no_meaning() -> None:
    went = [(LOCAL, "20"), (NUBC, "03"), (DISPOSITION, "snf"), (None, "1")]
    came = [(LOCAL, "1"), (SOURCE, "emd"), (None, "9")]
    urgent = [(LOCAL, "R"), (PRIORITY, "UR"), (None, "EM")]
    kinds = [(LOCAL, "4"), (ACT, "IMP"), ("http://terminology.hl7.org/CodeSystem/v2-0004", "I")]
    found = set()
    for order in permutations(range(4)):
        listed = [[codes[i] for i in order if i < len(codes)] for codes in (went, came, urgent, kinds)]
        stay = STAY | OVER | {
            "hospitalization": {"dischargeDisposition": concept(*listed[0]), "admitSource": concept(*listed[1])},
            "priority": concept(*listed[2]),
            "class": [concept(*listed[3])],
        }  # fmt: skip
        record = PatientRecord.from_resources([PATIENT, stay], "p", AT, encounter_id="stay")
        vector = record.features()
        assert record.current_stay is not None
        found.add(
            (
                *(
                    str(answer(vector, f"{n}.last"))
                    for n in ("discharge_disposition", "admission_source", "acute_admission")
                ),
                record.current_stay.discharge_disposition,
                str(record.to_meds()),
            )
        )
    assert len(found) == 1
    assert next(iter(found))[:3] == ("facility", "emergency", "1.0")


CLASSES: list[tuple[str, Any, StayClass, str | None]] = [
    ("R4", {"system": ACT, "code": "IMP"}, StayClass.INPATIENT, None),
    ("lower case", {"system": ACT, "code": "imp"}, StayClass.INPATIENT, None),
    ("no system", {"code": "ACUTE"}, StayClass.INPATIENT, None),
    ("the OID of ActCode", {"system": "urn:oid:2.16.840.1.113883.5.4", "code": "EMER"}, StayClass.EMERGENCY, None),
    ("a word", "inpatient", StayClass.INPATIENT, None),
    ("a word of DSTU2 in a coding", {"system": "http://hl7.org/fhir/encounter-class", "code": "ambulatory"}, StayClass.OUTPATIENT, None),
    ("v2-0004 I", {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": "I"}, StayClass.INPATIENT, None),
    ("v2-0004 E", {"system": "urn:oid:2.16.840.1.113883.12.4", "code": "E"}, StayClass.EMERGENCY, None),
    ("v2-0004 B, obstetrics", {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": "B"}, StayClass.OTHER, "class-not-understood"),
    ("I without a system", {"code": "I"}, StayClass.OTHER, "class-not-understood"),
    ("short stay", {"system": ACT, "code": "SS"}, StayClass.OTHER, "class-not-understood"),
    ("a vendor's", {"system": "urn:oid:1.2.840.114350.1.72.1.7.7.10.696784.13260", "code": "4"}, StayClass.OTHER, "class-not-understood"),
    ("IMP of a local system", {"system": LOCAL, "code": "IMP"}, StayClass.OTHER, "class-not-understood"),
    ("absent", None, StayClass.OTHER, "no-class"),
    ("data absent", {"extension": [{"url": "x", "valueCode": "unknown"}]}, StayClass.OTHER, "no-class"),
    ("an empty list", [], StayClass.OTHER, "no-class"),
    ("a display only", {"display": "Inpatient"}, StayClass.OTHER, "class-not-understood"),
    ("a null flavour", {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"}, StayClass.OTHER, "class-not-understood"),
    ("R5, a vendor's first", [concept((LOCAL, "4")), concept((ACT, "IMP"))], StayClass.INPATIENT, None),
    ("R5, emergency admission", [concept((ACT, "IMP")), concept((ACT, "EMER"))], StayClass.INPATIENT, None),
    ("R5, a contradiction", [concept((ACT, "IMP")), concept((ACT, "AMB"))], StayClass.OTHER, "codes-disagree"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "written", "kind", "reason"), CLASSES, ids=[row[0] for row in CLASSES])
def test_a_class_is_understood_or_named(name: str, written: Any, kind: StayClass, reason: str | None) -> None:
    """Four earlier stays of an unrecognised class became 0 with nothing refused, and a current one "no stay"."""
    stay = {key: value for key, value in (STAY | {"class": written}).items() if value is not None}
    record = PatientRecord.from_resources([PATIENT, stay], "p", AT)
    assert [(one.stay_class, one.class_unknown) for one in record.stays] == [(kind, reason)]
    assert record.no_stay == (reason or ("" if kind is StayClass.INPATIENT else "no-stay"))
    assert [r.reason for r in record.refused if r.source == "Encounter/stay"] == ([reason] if reason else [])
    named = PatientRecord.from_resources([PATIENT, stay], "p", AT, encounter_id="stay")
    assert named.no_stay == record.no_stay
    assert answer(named.features(), "procedure.count") == (0.0 if kind is StayClass.INPATIENT else named.no_stay)


def test_the_refusal_names_the_class_but_no_free_text() -> None:
    def detail(written: Any) -> str | None:
        record = PatientRecord.from_resources([PATIENT, STAY | {"class": written}], "p", AT)
        return next(r.detail for r in record.refused)

    assert detail({"system": LOCAL, "code": "4"}) == f"4 of {LOCAL}"
    assert detail("Station of Mr Smith") is None


def earlier(number: int, kind: Any) -> Resource:
    start = f"2023-0{number + 4}-05T08:00:00Z"
    return STAY | {
        "id": f"e{number}", "status": "finished", "class": kind,
        "period": {"start": start, "end": start.replace("-05T", "-09T")},
    }  # fmt: skip


def test_counts_are_ranges_over_classes_that_are_not_understood() -> None:
    vendor, known = {"system": LOCAL, "code": "4"}, {"system": ACT, "code": "IMP"}
    found = features(STAY, earlier(1, vendor), earlier(2, vendor), earlier(3, known))
    assert found.unknown["inpatient_stay.count_365d"] == "class-not-understood"
    assert found.bounds("inpatient_stay.count_365d") == (1.0, 3.0)
    assert found.bounds("emergency_visit.count_365d") == (0.0, 2.0)
    # Control: a part of the stay whose class is not understood is still part of the stay.
    part = STAY | {"id": "bed", "class": vendor, "partOf": {"reference": "Encounter/stay"}}
    assert features(STAY, part).number("inpatient_stay.count_365d") == 0.0
    old = earlier(1, vendor) | {"period": {"start": "2020-01-01T00:00:00Z", "end": "2020-01-05T00:00:00Z"}}
    assert features(STAY, old).number("inpatient_stay.count_365d") == 0.0


def test_every_table_is_consistent() -> None:
    for table in _tables().values():
        assert all(code == normalised(code) and meaning for (_, code), meaning in table.items())
