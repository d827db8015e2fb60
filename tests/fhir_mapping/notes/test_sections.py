"""Headings in the styles of clinicians and systems; prose is not a heading."""

from __future__ import annotations

import pytest

from fhir_mapping.notes.section_names import section_name
from fhir_mapping.notes.sections import find_sections
from tests.fhir_mapping.notes.note_files import cda, loinc, rtf
from tests.fhir_mapping.notes.test_documents import document, only

STYLES: list[tuple[str, str]] = [
    ("capitals and colon", "PAST MEDICAL HISTORY: COPD"),
    ("capitals alone", "PAST MEDICAL HISTORY\nCOPD"),
    ("title and colon", "Past Medical History:\nCOPD"),
    ("title and text", "Past Medical History: COPD"),
    ("title alone", "Past Medical History\nCOPD"),
    ("lower case and colon", "past medical history: COPD"),
    ("abbreviation", "PMH: COPD"),
    ("abbreviation in lower case", "pmhx: COPD"),
    ("markdown", "## Past Medical History\nCOPD"),
    ("closed markdown", "## Past Medical History ##\nCOPD"),
    ("markdown bold", "**Past Medical History**\nCOPD"),
    ("markdown bold and colon", "**Past Medical History:** COPD"),
    ("colon after the bold", "**Past Medical History**: COPD"),
    ("underscores", "__Past Medical History__\nCOPD"),
    ("numbered", "3. Past Medical History\nCOPD"),
    ("numbered with a bracket", "3) Past Medical History: COPD"),
    ("roman", "IV. PAST MEDICAL HISTORY\nCOPD"),
    ("lettered", "B. Past Medical History\nCOPD"),
    ("underlined", "Past Medical History\n--------------------\nCOPD"),
    ("doubly underlined", "Past Medical History\n====\nCOPD"),
    ("between rules", "=== Past Medical History ===\nCOPD"),
    ("between dashes", "-- Past Medical History --\nCOPD"),
    ("between stars", "*** PAST MEDICAL HISTORY ***\nCOPD"),
    ("in brackets", "[Past Medical History]\nCOPD"),
    ("indented", "   Past Medical History:\nCOPD"),
    ("quoted", "> Past Medical History: COPD"),
    ("with a dash", "Past Medical History - COPD"),
    ("with an addition", "Past Medical and Surgical History: COPD"),
]


@pytest.mark.parametrize(("name", "text"), STYLES, ids=[row[0] for row in STYLES])
def test_headings_in_every_style(name: str, text: str) -> None:
    whole = f"Seen today.\n\n{text}\n\nPLAN: rest"
    past, plan = find_sections(whole)
    assert (past.name, plan.name) == ("past_history", "plan")
    assert past.title.lower() in {"past medical history", "past medical and surgical history", "pmh", "pmhx"}
    assert "COPD" in whole[past.start : past.end]
    assert whole[plan.start : plan.end] == "PLAN: rest"


PROSE = [
    "Patient denies allergies",
    "He has a history of: COPD",
    "Plan discussed with the daughter, who agrees with it.",
    "Medication changed today: see below",
    "BP: 120/80",
    "Na: 131",
    "WBC: 8.1\nHR: 90",
    "Results were normal.",
    "Follow the plan of last week, and call if worse;",
    "- Allergies: none",
    "* Plan: rest",
    "| Plan | rest |",
    "[sic]",
    "10:30 seen",
    "No family history of stroke was found in the mother's chart: none",
    "https://example.org/plan",
    "A+O x3",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_lists_and_values_are_not_headings(text: str) -> None:
    assert find_sections(f"Seen today.\n{text}\nmore") == ()


TITLES = {
    "family_history": ["Family History", "FHx", "Family Medical History", "FAMILY HX"],
    "social_history": ["Social History", "SH", "Tobacco Use", "Psychosocial History"],
    "past_history": ["Past Medical History", "PSH", "Surgical History", "Obstetric History", "Comorbidities"],
    "problems": ["Problem List", "Active Problems", "Active Issues", "Problems"],
    "present_illness": ["History of Present Illness", "HPI", "Subjective", "Interval History", "S"],
    "chief_complaint": ["Chief Complaint", "CC", "Reason for Visit", "Reason for Exam", "Presenting Complaint"],
    "review_of_systems": ["Review of Systems", "ROS"],
    "allergies": ["Allergies", "Allergies and Adverse Reactions", "Drug Allergies"],
    "medications": ["Medications", "Discharge Medications", "Home Meds", "Current Medication List", "Drug History"],
    "vital_signs": ["Vital Signs", "Vitals"],
    "examination": ["Physical Exam", "PE", "Objective", "Physical Examination on Discharge", "O"],
    "results": ["Pertinent Results", "Laboratory Data", "Labs on Admission", "Imaging", "EKG", "Findings", "CXR"],
    "hospital_course": ["Hospital Course", "Brief Hospital Course", "Overnight Events", "ED Course"],
    "discharge_plan": ["Discharge Instructions", "Discharge Disposition", "Follow-up", "Discharge Plan", "Disposition"],
    "assessment": ["Assessment and Plan", "A/P", "A&P", "Impression", "Discharge Diagnoses", "Assessment", "A"],
    "plan": ["Plan", "Recommendations", "Treatment Plan", "P", "Plan of Care"],
    "procedures": ["Procedures", "Major Surgical Procedures", "Operations"],
    "immunizations": ["Immunizations"],
    "code_status": ["Code Status", "Advance Directives"],
    "functional_status": ["Functional Status"],
    "consultations": ["Consults"],
    "other": ["Weather"],
}


@pytest.mark.parametrize(("name", "titles"), TITLES.items())
def test_titles_name_their_section(name: str, titles: list[str]) -> None:
    assert {title: section_name(title) for title in titles} == dict.fromkeys(titles, name)
    if name != "other":
        for title in titles:
            assert [section.name for section in find_sections(f"{title}:\nx")] == [name], title


def test_unknown_headings_end_the_section_before_them() -> None:
    text = "FAMILY HISTORY: stroke\n\nWEATHER REPORT: sun\n\nRADIO NEWS\n\nx"
    assert [(s.name, s.title) for s in find_sections(text)] == [
        ("family_history", "FAMILY HISTORY"), ("other", "WEATHER REPORT"), ("other", "RADIO NEWS"),
    ]  # fmt: skip


def test_unknown_subheadings_keep_the_name_of_their_parent() -> None:
    text = "# Assessment\nill\n## Lungs\nbad\n# Weather\nsun\n## Wind\nnone"
    assert [s.name for s in find_sections(text)] == ["assessment", "assessment", "other", "other"]


def test_sections_cover_the_text_between_headings() -> None:
    text = "CHIEF COMPLAINT: cough\n\nFAMILY HISTORY: father had stroke\n\nPlan\nrest"
    found = list(find_sections(text))
    assert [section.name for section in found] == ["chief_complaint", "family_history", "plan"]
    assert text[found[1].start : found[1].end].startswith("FAMILY HISTORY: father")
    assert [section.end for section in found] == [found[1].start, found[2].start, len(text)]


MARKED: list[tuple[str, bytes, str]] = [
    ("HTML headings", b"<h1>Verlauf</h1><p>gut</p><h2>Plan</h2><p>Ruhe</p>", "text/html"),
    ("HTML bold lines", b"<p><b>Verlauf</b></p><p>gut</p><b>Plan:</b> Ruhe", "text/html"),
    ("HTML bold by style", b"<div style='font-weight: bold'>Verlauf</div><div>gut</div><strong>Plan</strong><br>Ruhe", "text/html"),
    ("HTML lines", b"<b>Verlauf:</b><br>gut<br>PLAN:<br>Ruhe", "text/html"),
    ("RTF bold paragraphs", rtf(r"{\b Verlauf}", r"gut", r"\b Plan\b0", "Ruhe"), "text/rtf"),
    ("CDA titles", cda("<title>Verlauf</title><text>gut</text>", "<title>Plan</title><text>Ruhe</text>"), "text/xml"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "kind"), MARKED, ids=[row[0] for row in MARKED])
def test_headings_marked_by_the_format_may_have_any_text(name: str, data: bytes, kind: str) -> None:
    note = only(document(data, kind))
    first, plan = note.sections
    assert (first.title, plan.name) == ("Verlauf", "plan")
    assert "gut" in note.text[first.start : first.end]
    assert "Ruhe" in note.text[plan.start : plan.end]


def test_bold_words_in_prose_are_not_headings() -> None:
    note = only(
        document(b"<p>He had <b>sepsis</b> and was <b>treated</b>.</p><p><b>Sepsis</b> is gone.</p>", "text/html")
    )
    assert note.sections == ()


def test_cda_sections_are_named_by_their_loinc_codes() -> None:
    sections = [
        f"{loinc(code)}<title>Titel</title><text>x</text>" for code in ("10160-0", "48765-2", "8648-8", "10157-6")
    ]
    note = only(document(cda(*sections), "text/xml"))
    assert [s.name for s in note.sections] == ["medications", "allergies", "hospital_course", "family_history"]
    assert [s.code for s in note.sections] == ["10160-0", "48765-2", "8648-8", "10157-6"]
