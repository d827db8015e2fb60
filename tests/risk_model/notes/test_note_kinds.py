"""What the rule reader makes of notes, by kind: one table, findings in their context and the values that count.

Each line stands for a kind that was misread once; lines named control were read rightly and have to stay so.
"""

from __future__ import annotations

import pytest

from benchmarks.note_precision import sign_of
from fhir_mapping import Note
from fhir_mapping.notes.sections import find_sections
from knowledge_index import KnowledgeIndex
from risk_model import NoteFindings, RuleNoteReader

# text, findings as sign and quote (+ present, - denied, ? uncertain, < past, > planned, ~ a relative's), values that count
KINDS: dict[str, list[tuple[str, str, str]]] = {
    "reference range": [
        ("Hgb 6.2 (13.5-17.5)", "", "hemoglobin 6.2"),
        ("Lactate 4.8 [ref: 0.5 - 2.0 mmol/L] H", "", "lactate 4.8"),
        ("RR 22 (12 - 28), SpO2: 95% (92% - 99%)", "", "respiratory_rate 22; spo2 95"),
        ("BP 104/58 (88-131/44-72)", "", "systolic_bp 104; diastolic_bp 58"),
        ("Troponin T 0.44 (<0.01)", "", "troponin_t 0.44"),
        ("| Potassium | 5.9 | H | 3.5-5.0 |", "", "potassium 5.9"),
        ("Potassium 5.9, normal 3.5-5.0", "", "potassium 5.9"),
        ("BP: 92/50 (84/40 - 131/78)", "", "systolic_bp 92; diastolic_bp 50"),
        ("Bilirubin, total 4.5 (0.1–1.2) H", "", "bilirubin 4.5"),
        ("Pulse: [68-104] 99", "", "heart_rate 99"),
        ("BP: (88-120)/(44-66) 94/52", "", "systolic_bp 94; diastolic_bp 52"),
        ("Temp: [36.4 °C-38.9 °C] 37.2 °C", "", "temperature 37.2"),
    ],
    "baseline": [
        ("Cr 2.3 (baseline ~1.2)", "", "creatinine 2.3"),
        ("Cr 2.3 (b/l 1.2-1.4)", "", "creatinine 2.3"),
        ("Cr 2.3 (usually 1.2)", "", "creatinine 2.3"),
        ("Cr 2.3 (baseline unknown)", "", "creatinine 2.3"),
        ("Weight 92 kg (dry weight 85 kg)", "", "weight 92"),
        ("BP 84/50 (baseline 130s)", "", "systolic_bp 84; diastolic_bp 50"),
        ("Hgb 7.4 (10.2 on last admission)", "", "hemoglobin 7.4"),
        ("SCr 3.1 mg/dL (baseline SCr 1.0 mg/dL)", "", "creatinine 3.1"),
        ("Na 119 (baseline low 130s, 131-133)", "", "sodium 119"),
        ("Cr 2.4 (previously 1.1)", "", "creatinine 2.4"),
        ("Cr 2.4 (1.1 on prior labs)", "", "creatinine 2.4"),
        ("Cr 1.1 (at baseline)", "", ""),
    ],
    "series": [
        ("BP 150/90, now 88/45", "", "systolic_bp 150; diastolic_bp 90; systolic_bp 88; diastolic_bp 45"),
        (
            "BP 150/90 (sitting), 120/70 (standing)",
            "",
            "systolic_bp 150; diastolic_bp 90; systolic_bp 120; diastolic_bp 70",
        ),
        ("Hct 34 — 29 — 25", "", "hematocrit 34; hematocrit 29; hematocrit 25"),
        ("Na 121 ~> 126 ⇒ 130", "", "sodium 121; sodium 126; sodium 130"),
        ("Cr 1.2 on 3/4, 2.3 on 3/5", "", "creatinine 1.2; creatinine 2.3"),
        ("Cr: 3/4 1.2, 3/5 2.3", "", "creatinine 1.2; creatinine 2.3"),
        ("Lactate 5.0 at 08:00, 2.4 at 14:00", "", "lactate 5; lactate 2.4"),
        ("BUN/Cr 52/2.9 from 20/1.1", "", "bun 52; creatinine 2.9"),
        ("BP 160/100; repeat 82/40", "", "systolic_bp 160; diastolic_bp 100; systolic_bp 82; diastolic_bp 40"),
        (
            "BPs 160/100, 120/66, 82/40",
            "",
            "systolic_bp 160; diastolic_bp 100; systolic_bp 120; diastolic_bp 66; systolic_bp 82; diastolic_bp 40",
        ),
        ("BP 160/100 (08:00) 82/40 (12:00)", "", "systolic_bp 160; diastolic_bp 100; systolic_bp 82; diastolic_bp 40"),
        (
            "Blood pressure was 160/100 and is now 82/40",
            "",
            "systolic_bp 160; diastolic_bp 100; systolic_bp 82; diastolic_bp 40",
        ),
        (
            "BP 82/40 improved with fluids to 104/60",
            "",
            "systolic_bp 82; diastolic_bp 40; systolic_bp 104; diastolic_bp 60",
        ),
        ("BP 160/100\nnow 82/40", "", "systolic_bp 160; diastolic_bp 100; systolic_bp 82; diastolic_bp 40"),
        ("BP 150/92, target 130/80", "", "systolic_bp 150; diastolic_bp 92"),
        ("BP 150/92, 10/12 pain", "", "systolic_bp 150; diastolic_bp 92"),
        ("BP 150/92, vision was 20/40", "", "systolic_bp 150; diastolic_bp 92"),
        ("Cr 1.1 on Jan 4, 3.3 on Jan 6", "", "creatinine 1.1; creatinine 3.3"),
        ("Cr 1.1 on 4 Jan -> 3.3 on 6 Jan", "", "creatinine 1.1; creatinine 3.3"),
        ("Cr 2.2 (Jan 5), 1.0 (Jan 3)", "", "creatinine 2.2; creatinine 1"),
        ("Lactate 6.2 trending down to 2.1", "", "lactate 6.2; lactate 2.1"),
        ("K 2.8, repleted, now 3.9", "", "potassium 2.8; potassium 3.9"),
        ("K 6.8 initially, 5.1 after insulin", "", "potassium 6.8; potassium 5.1"),
        ("Hgb 6.8, transfused 2 units, now 8.4", "", "hemoglobin 6.8; hemoglobin 8.4"),
        ("Glucose 480, given 10 units insulin, now 210", "", "glucose 480; glucose 210"),
        ("SBP 160s -> 88", "", "systolic_bp 160; systolic_bp 88"),
        ("Cr trend: 1.1 -> 2.2 -> 3.3", "", "creatinine 1.1; creatinine 2.2; creatinine 3.3"),
    ],
    "masked date": [
        ("Hgb [**2118-3-4**] 9.2, [**2118-3-5**] 7.8", "", "hemoglobin 9.2; hemoglobin 7.8"),
        ("Glucose ([**2-14**]) 182", "", "glucose 182"),
        ("Na [**12-2**]-> 133", "", "sodium 133"),
    ],
    "another fluid": [
        ("CSF: WBC 410, glucose 22. Serum glucose 110.", "", "glucose 110"),
        ("Pleural fluid pH 7.10, LDH 900", "", ""),
        ("UA\npH 8.0\nWBC 50\n\nBlood\nWBC 13.3", "", "wbc 13.3"),
        ("UA negative. WBC 11.2", "", "wbc 11.2"),
        ("Cirrhosis with ascites, albumin 2.1", "+Cirrhosis; +ascites", "albumin 2.1"),
        ("Ascitic fluid albumin 0.9, total protein 1.2", "+Ascitic fluid", ""),
        ("Wound clean; WBC 9.1", "", "wbc 9.1"),
    ],
    "unit": [
        ("pedal pulses 2+, pulse 66", "", "heart_rate 66"),
        ("Ht 5'10\", Wt 198 lb", "", "height 177.8; weight 89.811"),
        ("Albumin 5% 250 mL x2", "", ""),
        ("Na 129 L, BUN 30, 2 L positive", "", "sodium 129; bun 30"),
        ("Given potassium 20 mEq and magnesium 4 g IV", "", ""),
        ("T 98.6 HR 72 BP 120/80", "", "temperature 37; heart_rate 72; systolic_bp 120; diastolic_bp 80"),
        ("Weight 180 lbs (down 5 lbs)", "", "weight 81.647"),
        ("Cr ↑ 2.3", "", "creatinine 2.3"),
        ("2 g sodium diet, potassium repletion", "", ""),
        ("Renal diet (low potassium, low sodium)", "", ""),
        ("carb-controlled diet, low glucose drinks", "", ""),
        ("Wt 180 #", "", "weight 81.647"),
        ("HR 110, now 2 L NC", "", "heart_rate 110"),
        ("K 3.1, now NPO after 12", "", "potassium 3.1"),
    ],
    "pseudo-negation": [
        ("No significant change in pneumonia.", "+pneumonia", ""),
        ("No relief of chest pain.", "+chest pain", ""),
        ("Without improvement in dyspnea.", "+dyspnea", ""),
        ("No evidence of improvement in pneumonia.", "+pneumonia", ""),
        ("No clear resolution of delirium.", "+delirium", ""),
        ("In general no change in vision, dizziness", "-dizziness", ""),
        ("No specific treatment for sepsis", "+sepsis", ""),
    ],
    "scope of a denial": [
        ("Chest pain not due to pulmonary embolism.", "+Chest pain; -pulmonary embolism", ""),
        ("PE ruled out, pneumonia confirmed.", "-PE; +pneumonia", ""),
        ("Ruled out for MI; CHF treated.", "-MI; +CHF", ""),
        ("No pulmonary source of sepsis.", "+sepsis", ""),
        ("Diabetes without complications, hyperlipidemia, CKD.", "+Diabetes; +hyperlipidemia; +CKD", ""),
        ("Asthma without bleeding, gout", "+Asthma; -bleeding; +gout", ""),
        ("Without fever or cough", "-fever; -cough", ""),
        ("BP goal not met, hypertension", "+hypertension", ""),
        ("Not in labor force, ischemic heart disease", "+ischemic heart disease", ""),
        ("Denies SI, depression stable", "+depression", ""),
        ("Hypoxia not explained by PE", "+Hypoxia; -PE", ""),
        ("Hypoxia not due to PE but due to pneumonia", "+Hypoxia; -PE; +pneumonia", ""),
        ("AMS not due to stroke but to hypoglycemia", "+AMS; -stroke; +hypoglycemia", ""),
        ("syncope unlikely from arrhythmia", "+syncope; -arrhythmia", ""),
        ("Sepsis r/o'd, UTI treated", "-Sepsis; +UTI", ""),
        ("CT ruled out PE, showed pneumonia", "-PE; +pneumonia", ""),
    ],
    "abbreviation": [
        ("SpO2 97% (RA)", "", "spo2 97"),
        ("TTE: RA mildly dilated, RA pressure 10", "", ""),
        ("RA flare", "+RA", ""),
        ("PE: lungs clear", "", ""),
        ("Bilateral PE on CTA", "+PE", ""),
        ("CVA tenderness", "", ""),
        ("Robitussin DM 10 ml", "", ""),
        ("CP angles sharp, CAP refill brisk", "", ""),
        ("discharge criteria MET, lung mets", "+mets", ""),
        ("scleroderma renal failure (SRF); SRF improved", "+renal failure; +SRF; +SRF", ""),
        ("RA: normal size, RV dilated", "", ""),
        ("RA trial", "", ""),
        ("4 METs exercise tolerance", "", ""),
        ("MI: mild, AR: trace", "", ""),
        ("Child Pugh CP B", "", ""),
        ("AF: fontanelle flat", "", ""),
        ("CF 20/40 OU", "", ""),
        ("PE - lungs CTA", "", ""),
        ("next AMS draw", "", ""),
        ("AF with RVR", "+AF", ""),
    ],
    "modifier": [
        ("DVT prophylaxis: heparin", "", ""),
        ("stroke protocol, seizure precautions", "", ""),
        ("heart failure clinic, diabetic diet, lung cancer screening", "", ""),
        ("chest pain free", "-chest pain", ""),
        ("influenza A/B swab: negative", "-influenza", ""),
        ("Pressure-ulcer (Braden 20/23): low", "", ""),
        ("VTE risk low", ">VTE", ""),
        ("DVT/PE prophylaxis: SCDs", "", ""),
        ("PPX: DVT - heparin, GI - PPI", "", ""),
        ("GI prophylaxis, DVT proph", "", ""),
        ("code stroke called", "", ""),
        ("ST depression in V4-V6", "", ""),
        ("TB exposure", "", ""),
        ("New DVT despite prophylaxis", "+DVT", ""),
        ("seizure precautions; sepsis treated on rehab unit", "+sepsis", ""),
        ("asthma action plan reviewed; asthma stable", "+asthma; +asthma", ""),
    ],
    "allergy": [
        ("Allergies: penicillin (anaphylaxis)", "<anaphylaxis", ""),
        ("ALLERGIES:\nPenicillin: anaphylaxis\nAspirin: asthma", "<anaphylaxis; <asthma", ""),
        ("Allergies: sulfa (rash). Presents with fever.", "+fever", ""),
        ("Allergic reaction today with anaphylaxis", "+anaphylaxis", ""),
        ("Penicillin allergy (anaphylaxis)", "<anaphylaxis", ""),
        ("All: PCN (anaphylaxis), ASA (urticaria)", "<anaphylaxis", ""),
        ("Seasonal allergies, asthma", "+asthma", ""),
    ],
    "form": [
        ("[ ] fever [x] nausea", "+nausea", ""),
        ("Fever: No  Cough: Yes", "-Fever; +Cough", ""),
        ("Do you have chest pain? No. Nausea? Yes.", "-chest pain; +Nausea", ""),
        ("fever no, nausea no", "-fever; -nausea", ""),
    ],
    "negative test": [
        ("flu A PCR (-)", "-flu", ""),
        ("RSV/flu/COVID neg", "-flu", ""),
        ("DVT ultrasound negative", "-DVT", ""),
        ("pneumonia, cultures negative", "+pneumonia", ""),
    ],
    "doubt or plan": [
        ("Reason for exam: eval PE", ">PE", ""),
        ("PE less likely", "?PE", ""),
        ("worried about cancer", "?cancer", ""),
        ("concerned that he has pneumonia", "?pneumonia", ""),
        ("avoid hypotension", ">hypotension", ""),
        ("hold for hypotension", ">hypotension", ""),
        ("resolved pneumonia", "-pneumonia", ""),
        ("old MI", "<old MI", ""),
        ("no diagnosis of cancer", "-cancer", ""),
        ("V/Q low probability for PE", "?PE", ""),
        ("questionable pneumonia", "?pneumonia", ""),
        ("CXR: ? pneumonia", "?pneumonia", ""),
    ],
    "a treatment is denied, not what it is for": [
        ("c/f sepsis", "?sepsis", ""),
        ("Not on insulin for diabetes", "+diabetes", ""),
        ("no surgery given heart failure", "+heart failure", ""),
        ("not a candidate for tPA for stroke", "+stroke", ""),
        ("no anticoagulation for AF given bleeding", "+AF; +bleeding", ""),
        ("nil by mouth for pancreatitis", "+pancreatitis", ""),
        ("EF 60%, no WMA, mild MR, diastolic heart failure", "+diastolic heart failure", ""),
    ],
    "more controls": [
        ("Chest pain? Nausea", "+Chest pain; +Nausea", ""),
        ("no recent surgery, stroke, or bleeding", "-stroke; -bleeding", ""),
    ],
    "control": [
        ("Patient with RA on methotrexate.", "+RA", ""),
        ("No evidence of pneumonia.", "-pneumonia", ""),
        ("No fever, has a cough", "-fever; +cough", ""),
        ("Family history: CAD in father; patient has COPD", "~CAD; +COPD", ""),
        ("Serum albumin 2.4 g/dL, pulse 112", "", "albumin 2.4; heart_rate 112"),
        ("Return if fever or chest pain", ">fever; >chest pain", ""),
        ("r/o PE", "?PE", ""),
    ],
}


@pytest.fixture(scope="module")
def reader() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def read(reader: RuleNoteReader, text: str) -> NoteFindings:
    return reader.read([Note("n", "Note", None, text, find_sections(text), "n", "read")])


@pytest.mark.parametrize(
    ("text", "findings", "values"),
    [pytest.param(*case, id=f"{kind}: {case[0]}") for kind, cases in KINDS.items() for case in cases],
)
def test_notes_are_read_rightly(reader: RuleNoteReader, text: str, findings: str, values: str) -> None:
    found = read(reader, text)
    assert "; ".join(sign_of(finding) + finding.quote for finding in found.findings) == findings
    numbers = [value for value in found.values if value.counts and value.unit and value.value is not None]
    assert "; ".join(f"{value.concept} {value.value:.5g}" for value in numbers) == values


@pytest.mark.parametrize(
    ("text", "concept", "last"),
    [
        ("Cr 1.2 –> 2.3", "creatinine", 2.3),
        ("Cr 2.6 on 5/9, 1.9 on 5/8", "creatinine", 2.6),
        ("K 3.1, down from 5.9", "potassium", 3.1),
        ("BP 150/90 -> 120/80 -> 85/40", "systolic_bp", 85),
        ("BP 88/45 (was 150/90)", "systolic_bp", 88),
    ],
)
def test_the_last_value_of_a_series_is_not_an_earlier_one(
    reader: RuleNoteReader, text: str, concept: str, last: float
) -> None:
    newest = [value.value for value in read(reader, text).values if value.concept == concept and not value.earlier]
    assert newest == [last]
