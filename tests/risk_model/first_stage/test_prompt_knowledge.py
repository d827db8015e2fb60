"""What a first stage is shown beside notes: the patient's own problems, and literature about them and the task."""

from __future__ import annotations

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.first_stage.deferred_opinions import DeferredOpinions
from risk_model.first_stage.language_stage import LanguageStage
from risk_model.first_stage.patient_opinions import ImmediateOpinions, asked_windows, asking, patient_prompts
from risk_model.first_stage.prompt_knowledge import MOST_PROBLEMS, knowledge_about
from risk_model.llm_reader.serialization import question_from_json, question_to_json
from risk_model.prompts.knowledge import Knowledge
from risk_model.prompts.note_prompt import MAX_PASSAGES
from risk_model.prompts.opinion import Opinion
from risk_model.prompts.risk_prompt import RiskPrompt, key_of
from tests.risk_model.language_fakes import SaysModel
from tests.risk_model.note_texts import note

TASK = "in_hospital_mortality"
SAID = "risk: high\nwhy: On two pressors. [1]\n"
TEXT = (
    "Assessment: heart failure, septic shock. On two pressors. Denies cough, no pneumonia. Mother had breast cancer. "
    "Known COPD. If vomiting starts, call. Possible pancreatitis.\n"
)


@pytest.fixture(scope="module")
def index() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


def about(index: KnowledgeIndex, text: str, task: str = TASK) -> Knowledge:
    return knowledge_about(asked_windows([note(text)]), index, task)


def test_problems_are_what_the_patient_has_or_had(index: KnowledgeIndex) -> None:
    found = about(index, TEXT).problems
    assert found[0] == "Heart Failure"
    assert "Pulmonary Disease, Chronic Obstructive" in found
    for other in ("Cough", "Pneumonia", "Breast Neoplasms", "Vomiting", "Pancreatitis"):
        assert other not in found


def test_evidence_is_about_the_patient_and_the_task(index: KnowledgeIndex) -> None:
    """Another patient and another task get other passages; a note without problems none."""
    mine = about(index, TEXT)
    assert 0 < len(mine.evidence) <= MAX_PASSAGES
    assert len(set(mine.evidence)) == len(mine.evidence)
    assert about(index, "Assessment: dementia, hip fracture.\n").evidence != mine.evidence
    assert about(index, TEXT, "readmission_30d").evidence != mine.evidence
    assert about(index, "Walks about. Denies cough.\n") == Knowledge()
    every = " ".join(f"Has {name}." for name in ("asthma", "gout", "anemia", "delirium", "dementia", "COPD", "obesity",
                                                  "psoriasis", "stroke", "cirrhosis", "heart failure"))  # fmt: skip
    assert len(about(index, every).problems) == MOST_PROBLEMS


def test_what_is_asked_at_once_and_later_is_the_same_with_and_without_evidence(index: KnowledgeIndex) -> None:
    shown: list[RiskPrompt] = []

    def say(prompt: RiskPrompt) -> str:
        shown.append(prompt)
        return SAID

    class Left:
        def __init__(self) -> None:
            self.asked: dict[str, RiskPrompt] = {}

        def get(self, keys: object) -> dict[str, Opinion]:
            return {}

        def ask(self, wanted: dict[str, RiskPrompt]) -> None:
            self.asked |= wanted

    for evidence in (True, False):
        left = Left()
        model = SaysModel(say)  # type: ignore[arg-type]
        found = ImmediateOpinions(model, TASK, evidence=evidence).read([note(TEXT)], index)
        DeferredOpinions(model.fingerprint, TASK, left, evidence=evidence).read([note(TEXT)], index)  # type: ignore[arg-type]
        assert found.said[0].cited == ((1,) if evidence else ())
        assert left.asked == {key_of(model.fingerprint, shown[-1]): shown[-1]}
        assert [shown[-1]] == patient_prompts([note(TEXT)], TASK, index if evidence else None)
    assert shown[0].window.knowledge.evidence
    assert not shown[1].window.knowledge.lines


def test_a_job_in_the_queue_keeps_the_evidence(index: KnowledgeIndex) -> None:
    (prompt,) = patient_prompts([note(TEXT)], TASK, index)
    back = question_from_json(question_to_json(prompt))
    assert back.window.knowledge == prompt.window.knowledge
    assert key_of("m", back) == key_of("m", prompt)


def test_a_stage_asks_as_it_was_trained() -> None:
    assert asking(True) != asking(False)
    raw = {"model": "m", "fingerprint": "f", "asking": asking() | {"evidence": "yes"}}
    with pytest.raises(ValueError, match="asked in another way"):
        LanguageStage.from_json(raw)
