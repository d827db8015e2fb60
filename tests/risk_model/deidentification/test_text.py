"""What is removed from text, what stays, and the way back from the new positions to the old ones."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path

import pytest

from risk_model.deidentification import SAFE_HARBOR, Category, deidentified

OFFSET = timedelta(days=-403)  # not a number of whole weeks

REPLACED = [
    # names
    ("Mr. Smith was seen.", "Mr. [NAME-1] was seen."),
    ("Patient: SMITH, JOHN A    MRN: 00482913", "Patient: [NAME-1]    MRN: [RECORD-1]"),
    ("seen by dr patel today", "seen by dr [NAME-1] today"),
    ("Attending: Helga Brandt, MD", "Attending: [NAME-1], MD"),
    ("his wife Rose and son Mark agree", "his wife [NAME-1] and son [NAME-2] agree"),
    ("Discussed with Quvenzhané Strazen-Öberg.", "Discussed with [NAME-1]."),
    ("J. Okonkwo called; Okonkwo agreed", "[NAME-1] called; [NAME-2] agreed"),
    ("O'Malley RN at bedside", "[NAME-1] RN at bedside"),
    # places
    ("Lives at 1420 Maple Grove Ave, Apt 4B.", "Lives at [PLACE-1]."),
    ("from Springfield, IL 62704 today", "from [PLACE-1], IL [PLACE-2] today"),
    ("Transferred from Mercy General Hospital.", "Transferred from [PLACE-1]."),
    ("at 7 old mill road, unit 3", "at [PLACE-1]"),
    ("P.O. Box 123 was used", "[PLACE-1] was used"),
    # numbers
    ("call (312) 555-0182 or 555-0199 x12", "call [PHONE-1] or [PHONE-2]"),
    ("Fax: 312-555-0199", "Fax: [FAX-1]"),
    ("SSN 123-45-6789, account number 77120", "SSN [SSN-1], account number [ACCOUNT-1]"),
    ("Medicare ID 1EG4-TE5-MK73", "Medicare ID [PLAN-1]"),
    ("NPI 1234567893; DEA# AB1234563", "NPI [LICENCE-1]; DEA# [LICENCE-2]"),
    ("pacemaker serial no. PJN7728193", "pacemaker serial no. [DEVICE-1]"),
    ("VIN 1HGCM82633A004352", "VIN [VEHICLE-1]"),
    ("mail a.b@example.org, see https://x.example/a?b=1", "mail [EMAIL-1], see [URL-1]"),
    ("workstation 10.2.33.7", "workstation [IP-1]"),
    ("specimen S21-12345", "specimen [RECORD-1]"),
    # dates, 403 days earlier
    ("on 2021-03-04", "on 2020-01-26"),
    ("03/04/2021 and 3/9/21", "01/26/2020 and 1/31/20"),
    ("13/04/2021 and 03/04/2021", "06/03/2020 and 25/02/2020"),
    ("March 4, 2021 10:30", "January 26, 2020 10:30"),
    ("4. März 2021, 04.03.2021", "[DATE-1], 26.01.2020"),
    ("04-MAR-2021", "26-JAN-2020"),
    ("admitted on 3/4 with", "admitted on 1/26 with"),
    ("since May 2019", "since April 2018"),
    ("surgery in 2015", "surgery in 2014"),
    ("on Tuesday", "on Friday"),
    ("at Christmas", "at [DATE-1]"),
    ("DOB: 03/14/1931", "DOB: [DATE-1]"),
    ("on 02/30/2021 he", "on [DATE-1] he"),
    # ages over 89
    ("a 93-year-old man", "a 90+-year-old man"),
    ("94yo F, in her nineties, aged 101", "90+yo F, in her 90+, aged 90+"),
]  # fmt: skip
KEPT = [
    "Call your doctor. Return if worse. Cumulative IN 15995 mL / OUT 12959 mL. Barthel 72/100. Chest X-ray: Bibasilar opacities.",
    "BP fell from 124/72 to 78/40. ST changes in V2-V4, MS intact. Afebrile. Comorbidities: none. Triage level 2.",
    "Strength 4/5-5/5. Vancomycin trough 15-20. Aspirin 81-325 mg. Sats 92-94%. WBC 12-15.",
    "in 90 days by DR imaging; 12 units in place; 2 weeks on the way to dialysis",
    "BP 120/80, HR 88, SpO2 96% on 2 L, T 37.2, RR 18",
    "Strength 5/5 throughout, 2/6 systolic murmur, pain 3/10, blood cultures 2/2 bottles",
    "Na 136, K 4.1, Cr 1.4, lactate 1.8, BNP 1234, platelets 250000/uL, WBC 11.2",
    "Parkinson's disease, Crohn disease, Bell's palsy, Graves' disease, Wells score 3, Glasgow Coma Scale 15",
    "Started Zosyn 3.375 g IV, Eliquis 5 mg BID, carbidopa-levodopa 25/100; Foley catheter placed",
    "ASSESSMENT AND PLAN: ACUTE HYPOXIC RESPIRATORY FAILURE. CHF, COPD, CKD.",
    "a 72-year-old man, 89 years old; BP 93/60; SpO2 94 %; aspirin 81 mg",
    "Gross hematuria. Brown sputum. Young adult. Will follow. May need surgery.",
    "Lives in Ohio with his wife; moved from Mexico",
    "Anesthesiologist: none. Thoracentesis, cholecystectomy and bronchoscopy performed.",
    "Oriented to person, place and time. Admit to ICU. Transferred to the floor.",
]


@pytest.mark.parametrize(("text", "expected"), REPLACED)
def test_identifiers_are_replaced(text: str, expected: str) -> None:
    assert deidentified(text, OFFSET, 2021).text == expected


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_identifier_stays(text: str) -> None:
    assert deidentified(text, OFFSET, 2021).text == text


def test_intervals_between_dates_stay() -> None:
    new = deidentified("from 2021-02-26 to 03/02/2021", OFFSET, 2021).text
    assert new == "from 2020-01-20 to 01/24/2020"  # four days


def test_a_known_name_is_removed_wherever_it_stands() -> None:
    text = "Hope is well. brown sputum; BROWN denies pain. hopeful"
    new = deidentified(text, OFFSET, 2021, {"Hope", "Brown"}).text
    assert new == "[NAME-1] is well. brown sputum; [NAME-2] denies pain. hopeful"


def test_positions_and_words_lead_back() -> None:
    text = "Mr. Smith, 93 y/o: pneumonia on 03/04/2021. Smith lives in Boston. No fever."
    new = deidentified(text, OFFSET, 2021)
    for word in ("pneumonia", "lives", "fever"):
        assert new.moved(text.index(word)) == new.text.index(word)
        assert new.original(new.text.index(word)) == text.index(word)
    for item in new.replacements:
        assert text[item.start : item.end] == item.original
        assert new.text[new.moved(item.start) :].startswith(item.surrogate)
    assert new.restored(new.text) == text


def test_every_position_maps_into_the_text() -> None:
    text = "".join(line for line, _ in REPLACED)
    new = deidentified(text, OFFSET, 2021)
    positions = [new.moved(place) for place in range(len(text) + 1)]
    assert positions == sorted(positions)
    assert positions[-1] == len(new.text)


def test_random_text_neither_fails_nor_takes_long() -> None:
    drawn = random.Random(7)
    signs = "Aa1 /-.:,@#()\n\t'é"
    for _ in range(30):
        text = "".join(drawn.choice(signs) for _ in range(400))
        new = deidentified(text, OFFSET, 2021)
        assert new.restored(new.text).count("\n") == text.count("\n")


def test_the_rule_table_has_the_eighteen_of_safe_harbor() -> None:
    assert "".join(letter for letter, *_ in SAFE_HARBOR) == "ABCDEFGHIJKLMNOPQR"
    assert {category for _, _, categories, *_ in SAFE_HARBOR for category in categories} == set(Category)


def test_the_documentation_states_the_rule_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "deidentification.md").read_text("utf-8")
    for letter, name, _, notes, fields in SAFE_HARBOR:
        assert f"| {letter} | {name} | {notes} | {fields} |" in page


@pytest.mark.parametrize(
    "unit",
    ["A.", "1-", "a.", "a-", "x", "A", "Aa, ", "1/2/", "ab:", "ABC-", "Aa of ", "MR ", "(1) ", "O'", "*-", "12 a "],
)
def test_time_grows_with_the_length_of_a_hostile_text(unit: str) -> None:
    """Several rules were quadratic in runs such as `A.A.A.`: 16,000 characters took twelve seconds."""

    def seconds(length: int) -> float:
        text = (unit * length)[:length]
        begun = time.process_time()
        deidentified(text, OFFSET, 2021)
        return time.process_time() - begun

    seconds(500)
    assert seconds(8000) < 12 * max(seconds(2000), 0.01)
