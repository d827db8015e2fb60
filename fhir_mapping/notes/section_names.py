"""Names sections by LOINC section code or heading text, and recognises unmarked headings by their words."""

from __future__ import annotations

import re
from functools import lru_cache

OTHER = "other"
MAX_TITLE = 80
# Section names by heading text; the first match counts.
_NAMES = tuple(
    (name, re.compile("|".join(patterns)))
    for name, patterns in {
        "family_history": [r"family( medical)? h", r"\bfhx?\b", r"\bfam(ily)? hx\b"],
        "social_history": [
            r"social", r"\bs(oc)?hx?\b", r"tobacco", r"lifestyle", r"habits", r"occupational",
            r"substance use",
        ],
        "review_of_systems": [r"review of systems?", r"systems review", r"\bros\b"],
        "allergies": [r"allerg", r"adverse (drug )?reaction", r"intolerance", r"\bnkd?a\b"],
        "chief_complaint": [
            r"complaint", r"\bcc\b", r"reason for", r"presenting", r"indication", r"clinical history", r"consulted for",
        ],
        "discharge_plan": [
            r"discharge (plan|instruction|disposition|condition|recommend|follow|diet|activit|order)", r"disposition",
            r"follow ?-?ups?\b", r"instructions", r"condition (at|on|upon) discharge", r"return precaution",
            r"transition", r"patient education", r"\bdispo\b",
        ],
        "hospital_course": [
            r"course", r"overnight", r"events? last", r"24 ?h(ou)?rs? events", r"hospitali[sz]ation(?! history)",
            r"\bstay\b",
        ],
        "medications": [
            r"medication", r"prescri", r"drugs?\b", r"\bmeds\b", r"pharmac", r"\brx\b", r"anticoagula", r"infusions?\b",
        ],
        "immunizations": [r"immuni[sz]ation", r"vaccin"],
        "vital_signs": [r"vitals?\b"],
        "examination": [r"exam", r"objective", r"^o$", r"^pe$", r"\bpex\b", r"physical findings", r"general status"],
        "results": [
            r"laborator", r"\blabs?\b", r"results?", r"imaging", r"radiolog", r"findings?", r"diagnostic", r"studies",
            r"microbiolog", r"patholog", r"\be[ck]g\b", r"\becho", r"x-?ray", r"\bcxr\b", r"\bct\b", r"\bmri\b",
            r"ultrasound", r"cultures", r"\bdata\b", r"investigations?",
        ],
        "present_illness": [
            r"present illness", r"\bhpi\b", r"subjective", r"interval", r"^s$", r"^(history|hx|hist)$",
            r"present(ing)? (history|condition)", r"history of (the )?presenti?",
        ],
        "problems": [r"problems?\b", r"active (issues|diagnos|condition)", r"health concerns?"],
        "past_history": [
            r"past ", r"\bhistory\b", r"\bp[ms]hx?\b", r"\bhx\b", r"co-?morbid", r"pre-?existing", r"background",
        ],
        "code_status": [r"code status", r"advance (care|directive)", r"resuscitation", r"goals of care"],
        "functional_status": [r"functional", r"mental status", r"cognitive", r"activities of daily", r"mobility"],
        "procedures": [r"procedure", r"operati", r"surger", r"intervention"],
        "assessment": [
            r"assess", r"impression", r"diagnos", r"^a$", r"^a ?[/&] ?p$", r"^a and p$", r"conclusion", r"synthesis",
            r"clinical summary", r"\bd?dx\b", r"formulation", r"decision making", r"^mdm$",
        ],
        "plan": [
            r"plan\b", r"recommend", r"treatment", r"^p$", r"to ?do\b", r"orders?\b", r"goals?\b", r"next steps",
            r"management",
        ],
        "consultations": [r"consult"],
    }.items()
)  # fmt: skip
# LOINC codes of CDA and FHIR Composition sections (C-CDA 2.1 section templates, US Core, IPS).
_BY_LOINC = {
    name: section
    for section, names in {
        "family_history": "10157-6",
        "social_history": "29762-2 8670-2",
        "review_of_systems": "10187-3",
        "allergies": "48765-2",
        "chief_complaint": "10154-3 29299-5 46239-0 42349-1 59768-2",
        "discharge_plan": "8653-8 69730-0 42344-2 8650-4 28650-6 55112-7 74213-0 69731-8",
        "hospital_course": "8648-8 46240-8",
        "medications": "10160-0 10183-2 75311-1 42346-7 29549-3 10155-0 57828-6",
        "immunizations": "11369-6",
        "vital_signs": "8716-3",
        "examination": "29545-1 10184-0 10210-3 61149-0 29544-4 11384-5",
        "results": "30954-2 11493-4 18748-4 26436-6 18782-3 59776-5 11502-2 24279-2",
        "present_illness": "10164-2 61150-9 11328-2",
        "problems": "11450-4 75310-3",
        "past_history": "11348-0 10167-5 11329-0 8670-1 10162-6",
        "code_status": "42348-3 75320-2",
        "functional_status": "47420-5 10190-7 83254-3",
        "procedures": "47519-4 29554-3 8724-7 10223-0 55109-3 46264-8",
        "assessment": "51848-0 51847-2 11535-2 46241-6 10219-4 10218-6 19005-8 44833-2 78375-3",
        "plan": "18776-5 61145-9 61146-7 62387-6 18783-1 8661-1",
        "consultations": "11488-4",
    }.items()
    for name in names.split()
}
# The words of unmarked headings. "Patient denies allergies" is not a heading: one of its words is not listed.
_HEADING_WORDS = """
    a about abuse active activities activity acute additional admission admit admitting advance adverse after
    alcohol all allergen allergic allergies allergy an anamnesis and anticoagulation appearance appointments
    assessment assessments at background brief by cardiac cardiology cardiovascular care cause cc chart chest chief
    clinical code comments comorbidities complaint complaints complications concerns conclusion conclusions
    condition conditions consult consultation consultations consults counseling course ct cultures current currently
    cxr daily data day days ddx death decision departure description detail details diagnoses diagnosis diagnostic
    diagnostics diet differential directives discharge dispo disposition drug drugs dx ecg echo echocardiogram ed
    education ekg emergency encounter er events exam examination examinations family fh fhx final findings follow
    follow-up followup for formulation from functional general goals gynecologic habits health history home hospital
    hospitalist hospitalization hospitalizations hour hours hpi hx icu illness illnesses imaging immediate
    immunization immunizations impression impressions in indication indications information infusions initial
    inpatient instruction instructions intake interim interval intervention interventions intolerances
    investigations is issues known lab laboratories laboratory labs last latest lifestyle list living maintenance
    major making management mdm medical medication medications medicines meds mental microbiology mobility mri
    narrative neurologic new next notable note notes nutrition objective observations obstetric occupational of on
    operation operations operative or order orders other outcome outpatient overnight overview oxygen p pain past
    pathology patient patients pe pertinent pex pfsh physical physician plan plans plus pmh pmhx point post
    postoperative pre precautions preoperative prescribed prescription prescriptions present presentation presenting
    previous primary principal prior problem problems procedure procedures progress provider psh pshx psychiatric
    psychosocial quality radiology reaction reactions reason recent recommendation recommendations referral
    rehabilitation relevant reproductive response results resuscitation return review risk ros rx screening
    secondary sh shx significant signs social status stay steps studies study subjective substance summary supportive
    surgeries surgery surgical symptoms system systems tests the therapeutic therapy to tobacco today transfer
    travel treatment treatments ultrasound up update upon use vaccinations vaccines visit vital vitals with work-up
    workup x-ray xray
"""
_WORDS = frozenset(_HEADING_WORDS.split())
_SMALL = frozenset({"a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "with"})
_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")
_COMPOUND = re.compile(r"[^a-z]")
_SOAP = frozenset({"S", "O", "A", "P"})


def section_name(title: str, code: str | None = None) -> str:
    """Returns the name of a section by its LOINC code, else by its title.

    >>> section_name("Past Medical History"), section_name("Medicatie", "10160-0"), section_name("Weather")
    ('past_history', 'medications', 'other')
    """
    return _BY_LOINC[code] if code in _BY_LOINC else _named(title.strip().lower()[:MAX_TITLE])


@lru_cache(maxsize=2048)
def _named(title: str) -> str:
    return next((name for name, pattern in _NAMES if pattern.search(title)), OTHER)


def is_heading_text(title: str, *, colon: bool) -> bool:
    """Whether an unmarked title is a heading: all its words are heading words and it names a section.

    >>> [is_heading_text(t, colon=False) for t in ("Past Medical History", "Patient denies allergies", "Weather")]
    [True, False, False]
    """
    if title in _SOAP:
        return colon
    first = title.partition(" ")[0].lower()
    if first not in _WORDS and not _COMPOUND.search(first):
        return False
    if not (colon or title[0].isupper()) or title[-1] in ".,;":
        return False
    words = [word.lower() for word in _WORD.findall(title)]
    if not 0 < len(words) <= 8 or words[-1] in _SMALL or not all(word in _WORDS for word in words):
        return False
    return _named(title.lower()) != OTHER
