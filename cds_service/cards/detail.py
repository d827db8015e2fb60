"""The detail of a card in GitHub Flavored Markdown: how likely, against what, why, on which data, which literature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from cds_service.cards.escape import gfm
from fhir_mapping import FeatureVector, PatientRecord
from risk_model import (
    TASKS,
    Assessment,
    Driver,
    Experiencer,
    NoteFindings,
    Polarity,
    RiskEstimate,
    ScoreResult,
    Temporality,
)

MAX_FINDINGS = 8
_REASONS = {
    "none-found": "never measured",
    "not-fetched": "not available to this service",
    "outside-window": "not measured in this stay",
    "not-coded": "not recorded",
    "no-stay": "no stay",
    "unknown": "not recorded",
    "censored": "only a bound such as <5",
    "implausible": "implausible value",
    "unit-conflict": "unit unclear",
    "no-unit": "unit missing",
    "unit-not-understood": "unit not understood",
    "imprecise": "too imprecise",
    "data-absent": "recorded as absent",
    "pressure-inverted": "systolic not above diastolic",
}
# By model: one that a site trained is about its own patients.
LEARNED_FROM = {
    "riskcards-icu-mortality-cinc2012": "adult intensive care stays, 2001–2008",
    "riskcards-readmission-diabetes130": "diabetic inpatients, 1999–2008",
}


def percent(probability: float) -> str:
    """
    >>> percent(0.004), percent(0.126), percent(0.997)
    ('less than 1 %', '13 %', 'more than 99 %')
    """
    if probability < 0.01:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def detail(assessments: Sequence[Assessment], record: PatientRecord) -> str:
    """One text for one or both tasks of a stay; what they share (data, notes, literature) is told once."""
    lines: list[str] = []
    for assessment in assessments:
        lines += [*_answer(assessment.estimate), ""]
    lines += [*_notes(assessments), *_literature(assessments), *_data(assessments, record)]
    return "\n".join(lines).strip()


def _answer(estimate: RiskEstimate) -> Iterator[str]:
    task = estimate.asked
    yield f"### {task.title}"
    yield ""
    if estimate.probability is not None and estimate.interval is not None:
        low, high = estimate.interval
        frequency = max(1, round(100 * estimate.probability))
        yield (
            f"**{percent(estimate.probability)}** risk of {task.outcome}: about {frequency} of 100 patients like this "
            f"one (90 % interval {percent(low)} to {percent(high)})."
        )
        if estimate.baseline:
            ratio = estimate.probability / estimate.baseline
            learned_from = LEARNED_FROM.get(estimate.model_id, "the cohort it was trained on")
            yield (
                f"Compared with {percent(estimate.baseline)} among the patients the model learned from "
                f"({learned_from}): **{ratio:.1f} times** as high."
            )
        for caution in estimate.cautions:
            yield f"**Unusual.** {gfm(caution, 300)}"
        yield ""
        yield from _drivers(estimate.drivers)
    elif estimate.abstention is not None:
        yield f"**No estimate by the model.** {gfm(estimate.abstention.reason, 400)}"
        yield ""
    yield from _scores(estimate.comparators, estimate.task)


def _drivers(drivers: Sequence[Driver]) -> Iterator[str]:
    for title, modifiable in (("What could be changed", True), ("What is given", False)):
        chosen = [driver for driver in drivers if driver.modifiable is modifiable]
        if not chosen:
            continue
        yield f"**{title}**"
        yield ""
        for driver in chosen:
            arrow = "▲ raises" if driver.contribution > 0 else "▼ lowers"
            yield f"- {arrow} · {gfm(driver.label)}: {gfm(driver.value)}"
        yield ""


def _scores(scores: Sequence[ScoreResult], task: str) -> Iterator[str]:
    if task not in TASKS:
        yield "No established score is shown for this question."
        return
    if not scores:
        yield "No established score applies: they are for adults whose age is known."
        return
    usable = [score for score in scores if score.inputs]
    for score in scores:
        if not score.inputs:
            yield f"{score.name} cannot be scored: none of its inputs is known."
    if not usable:
        return
    yield ""
    yield "| established score | points | published risk | missing |"
    yield "|---|---|---|---|"
    for score in usable:
        risk = percent(score.expected_risk) if score.expected_risk is not None else "–"
        band = f" ({score.band})" if score.band else ""
        missing = ", ".join(score.missing) or "nothing"
        yield f"| {score.name} | {score.in_words()}{band} | {risk} | {gfm(missing)} |"


def _notes(assessments: Sequence[Assessment]) -> Iterator[str]:
    findings = assessments[0].findings
    yield "### What the notes say"
    yield ""
    if findings.notes_read == 0:
        unread = f"; {findings.notes_unreadable} could not be read" if findings.notes_unreadable else ""
        yield f"No note was read{unread}."
        yield ""
        return
    telling = [
        f
        for f in findings.findings
        if f.polarity is Polarity.PRESENT
        and f.temporality is Temporality.CURRENT
        and f.experiencer is Experiencer.PATIENT
    ]
    named = {finding.concept_ui: finding for finding in reversed(telling)}
    denied = {f.concept_ui: f for f in findings.findings if f.polarity is Polarity.ABSENT and f.concept_ui not in named}
    said = ", ".join(f"{gfm(f.name)} (“{gfm(f.quote, 60)}”)" for f in list(named.values())[:MAX_FINDINGS])
    unsaid = ", ".join(gfm(f.name) for f in list(denied.values())[:MAX_FINDINGS])
    yield f"Read: {_counted(findings.notes_read, 'note')}" + (
        f", {findings.notes_unreadable} could not be read." if findings.notes_unreadable else "."
    )
    yield ""
    if said:
        yield f"- Present: {said}"
    if unsaid:
        yield f"- Denied: {unsaid}"
    if not said and not unsaid:
        yield "- Nothing was found in them that the patient has now, and nothing that is denied."
    if findings.unanchored_dropped:
        claims = _counted(findings.unanchored_dropped, "claim")
        yield f"- Left out: {claims} of the language model that the notes do not bear out."
    if findings.language_notes or findings.waiting or findings.language_failed:
        yield f"- {_who_read(findings)}"
    for assessment in assessments:
        yield from _first_stage(assessment.estimate)
    yield f"- {_what_it_moves([assessment.estimate for assessment in assessments])}"
    yield ""


def _first_stage(estimate: RiskEstimate) -> Iterator[str]:
    """What a first stage makes of the notes. A language model's reasons are sentences of a note, and quoted as such."""
    title = estimate.asked.title
    if estimate.voice is None and estimate.reasons:
        yield f"- What weighs most in them for {title}: {'; '.join(gfm(reason, 80) for reason in estimate.reasons)}."
    if estimate.voice is not None:
        model = replace(estimate.voice, model=gfm(estimate.voice.model, 200))
        words = model.in_words([gfm(reason, 160) for reason in estimate.reasons])
        if words:
            yield f"- {title}: {words}"


def _who_read(findings: NoteFindings) -> str:
    """Where a language model is asked too: which reader read, and what it has yet to read or could not."""
    by_rules = findings.notes_read - findings.language_notes
    model = findings.reader.rpartition("#")[2].rpartition("/")[2].removeprefix("language:")
    who = [f"the language model {gfm(model, 60)} ({findings.language_notes})"] if findings.language_notes else []
    who += [f"rules ({by_rules})"] if by_rules else []
    words = f"Read by {' and '.join(who)}."
    if findings.waiting:
        words += f" {_counted(findings.waiting, 'note')} not read by the language model yet: it reads ahead, not now."
    if findings.language_failed:
        words += f" The language model gave no usable answer for {_counted(findings.language_failed, 'note')}."
    return words


def _what_it_moves(estimates: Sequence[RiskEstimate]) -> str:
    if not any(estimate.reads_notes for estimate in estimates):
        return "What notes say is shown beside the estimate; it does not change the number."
    if any(estimate.anchor is not None for estimate in estimates):
        return "What a language model read can move the number within a bound, and never the level of this card."
    return "What notes say is part of the estimate."


def _literature(assessments: Sequence[Assessment]) -> Iterator[str]:
    yield "### Literature"
    yield ""
    seen: set[str] = set()
    for evidence in (item for assessment in assessments for item in assessment.evidence):
        if evidence.pmid in seen or len(seen) >= 6:
            continue
        seen.add(evidence.pmid)
        facts = ", ".join(filter(None, (evidence.study_type, str(evidence.year) if evidence.year else None)))
        yield f"- {gfm(evidence.passage, 400)} [PMID {int(evidence.pmid)}]({evidence.url})" + (
            f" ({facts})" if facts else ""
        )
        if evidence.path:
            yield f"  - found by: {gfm(evidence.path_in_words(), 200)}"
    if any("literature" in assessment.left_out for assessment in assessments):
        yield "Time was up before the literature was searched; open the chart again to see it."
    elif not seen:
        yield "Nothing in the evidence base is close enough to this patient's problems to be shown."
    yield ""


def _data(assessments: Sequence[Assessment], record: PatientRecord) -> Iterator[str]:
    yield "### Data used"
    yield ""
    yield f"As known on {_day(record.prediction_time)}."
    yield ""
    vector = record.features()
    yield from _used(record, vector)
    gaps = {
        gap.name: gap.reason
        for assessment in assessments
        if _gaps_matter(assessment)
        for gap in assessment.estimate.gaps
    }
    if gaps:
        shown = ", ".join(f"{gfm(name)} ({_REASONS.get(reason, reason)})" for name, reason in list(gaps.items())[:20])
        more = f" and {len(gaps) - 20} more" if len(gaps) > 20 else ""
        yield f"- Missing: {shown}{more}"
    if record.not_fetched:
        yield f"- Not available to this service: {', '.join(sorted(record.not_fetched))}"
    refused = Counter(refusal.reason for refusal in record.refused if refusal.reason != "not-fetched")
    if refused:
        yield "- Read but not used: " + ", ".join(f"{reason} ({count})" for reason, count in refused.most_common(6))


def _gaps_matter(assessment: Assessment) -> bool:
    """Whether the model could have spoken: what it lacks is of no interest outside its population."""
    abstention = assessment.estimate.abstention
    return abstention is None or abstention.code in {"too-little-data", "input-unknown"}


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _used(record: PatientRecord, vector: FeatureVector) -> Iterator[str]:
    start = None if record.current_stay is None else record.current_stay.start
    values = [m for m in record.measurements if start is None or m.time >= start]
    if values:
        times = [value.time for value in values]
        yield f"- {_counted(len(values), 'measurement')} of this stay, {_day(min(times))} to {_day(max(times))}"
    else:
        yield "- No measurement of this stay"
    active = {condition.text for condition in record.conditions if condition.active}
    drugs = {medication.text for medication in record.medications if medication.active}
    yield f"- {_counted(len(active), 'active problem')}, {_counted(len(drugs), 'medication')}"
    if start is not None:
        yield f"- Stay begun {_day(start)}; length so far {vector.number('length_of_stay.last') or 0:.1f} days"


def _day(moment: datetime) -> str:
    return f"{moment:%-d %B %Y, %H:%M} UTC"
