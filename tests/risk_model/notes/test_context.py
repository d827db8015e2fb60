"""What the words around a mention make of it: one sentence for each kind, the mention between angle brackets."""

from __future__ import annotations

import re

import pytest

from fhir_mapping.notes.sections import find_sections
from knowledge_index.context.triggers import triggers
from risk_model.llm_tuning.examples import status
from risk_model.notes.context import context

CASES = {
    "present": [
        "Admitted with <pneumonia>.",
        "65-year-old woman with <CHF>",
        "a woman in her 80s with <CHF>",
        "Three-day history of <cough>",
        "Clinical history: <dyspnea>",
        "No fever, has a <cough>",
        "no nausea, +<vomiting>",
        "No change in <edema>",
        "no edema, new <PE>",
        "Past week with <diarrhea>",
        "s/p CABG 2015, <angina> noted",
        "h/o MI, known <CKD>",
        "His mother reports <fever> since Tuesday",
        "Lives with his wife and has <COPD>",
        "Per daughter, <confusion> since yesterday",
        "dad w/ DKA, +<seizures>",
        "Denied chest pain but had <syncope>",
        "<Anemia> not improved",
        "Prior to admission she had <fever>",
        "<Chest pain> two days ago",
        "PMH: gout\n\nKidneys: <AKI>",
        "Interval history:\nmore <dyspnea>",
        "FHx: CAD\n\nToday <fever>",
        "Monitor for DVT, new <constipation>",
    ],
    "absent": [
        "No <fever>",
        "no fever, chills or <cough>",
        "Denies any history of <stroke>",
        "no evidence of\n   <pneumonia>",
        "w/o <edema>",
        "neg for <DVT>",
        "fever, -<cough>",
        "nil <edema>",
        "Never developed <sepsis>",
        "Nothing to suggest <PE>",
        "<Stroke> was ruled out",
        "<PE>: none",
        "<nausea> and vomiting were denied",
        "Stridor not heard, <rash> not seen",
        "<Ileus>, resolved",
        "has had no further <chest pain>",
        "doesn't have <asthma>",
        "Neither fever nor <cough>",
        "Without <ascites>; spleen not felt",
    ],
    "past": [
        "history of <MI>",
        "h/o <gout>",
        "Hx: <asthma>, eczema",
        "PMHx <CVA>, AF",
        "s/p <DVT>",
        "Old <MI> on ECG",
        "<Pneumonia> in 2012",
        "<stroke> (March 2009)",
        "She had <eclampsia> in her twenties",
        "had <measles> as a child",
        "<Cellulitis> many years ago",
        "had <PE> last year",
        "<Pancreatitis> two decades ago, resolved",
        "Formerly <epilepsy>",
        "Background of <asthma>",
        "Two years ago he was treated for <lymphoma>",
        "Known to us; medical history notable for <CHF>",
        "Past Medical History:\n<CHF>\nCKD",
        "Significant for <COPD> history",
    ],
    "family": [
        "Mother had <CHF>",
        "family history of <CAD> and stroke",
        "Family history positive for CAD, negative for <cancer>",
        "FHx <gout>",
        "dad w/ <MI>",
        "<Cancer> in the family",
        "family: <stroke> (father)",
        "<Diabetes> in his brother",
        "Visited by her sister, who has <asthma>",
        "His cousin and both aunts had <lupus>",
        "Paternal grandmother died of <MI>",
        "Family History:\n<stroke>",
        "Her husband is ill with <influenza>",
    ],
    "planned": [
        "Return if <fever>",
        "Call if fever, new onset of chest pain, or <syncope>",
        "watch for <delirium>",
        "at risk of <falls>",
        "Screening for <cancer>",
        "heparin for prophylaxis against <DVT>",
        "Should he develop <rash>, stop the drug",
        "Concern for risk of <sepsis>",
        "Advised to go to the ED if <bleeding> recurs",
    ],
    "uncertain": [
        "possible <pneumonia>",
        "cannot exclude <PE>",
        "<PE> not ruled out",
        "concern for <sepsis>",
        "may have <CHF>",
        "?<cellulitis>",
        "r/o <PE>",
        "CT to rule out <PE>",
    ],
}


def read(marked: str) -> str:
    place = re.search("<(.*?)>", marked)
    assert place is not None
    text = marked.replace("<", "").replace(">", "")
    return status(*context(text, find_sections(text), place.start(), place.end() - 2))


@pytest.mark.parametrize(
    ("wanted", "marked"), [(wanted, marked) for wanted, sentences in CASES.items() for marked in sentences]
)
def test_the_words_around_a_mention_decide(wanted: str, marked: str) -> None:
    assert read(marked) == wanted


def test_no_trigger_is_slow_on_long_lists() -> None:
    """What could be tried in many ways once took seconds: every pattern is bounded."""
    text = "no " + "very bad pain, " * 200 + "cough" + " and pain" * 200
    for pattern in triggers().values():
        assert len(list(pattern.finditer(text[:4000]))) < 4000
