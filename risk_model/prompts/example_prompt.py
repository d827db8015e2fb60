"""Worked examples before the question, and answers in lines: for models that were not tuned on our answers.

    ExamplePrompt(prompt).messages      # system, examples with their answers, then the window asked about

Asked for JSON without an example, Qwen2.5-Coder-1.5B answers every window with empty lists; asked for lines after
examples it reads. The examples are the same for all prompts, so that llama.cpp reads them once, and a line takes a
quarter of the tokens of its JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from knowledge_index import Experiencer, Polarity, Temporality
from risk_model.prompts.answers import AnswerFinding, AnswerValue, ReaderAnswer
from risk_model.prompts.compact_format import CompactPrompt, in_lines
from risk_model.prompts.note_prompt import Message, Prompt, Window

VERSION = "1"
_FAMILY, _PAST, _PLANNED = Experiencer.FAMILY, Temporality.HISTORICAL, Temporality.HYPOTHETICAL
EXAMPLES = (
    (
        "Admitted with cellulitis of the left leg, spreading. Getting more short of breath. WBC 14.2, HR 96.",
        ReaderAnswer(
            (AnswerFinding("cellulitis", "Cellulitis"), AnswerFinding("short of breath", "Dyspnea")),
            (AnswerValue("WBC 14.2", "wbc", 14.2), AnswerValue("HR 96", "heart_rate", 96)),
        ),
    ),
    (
        "Denies fever, no evidence of osteomyelitis. Had a pulmonary embolism years ago, gout in the past. Father died "
        "of a stroke, a sister has asthma.",
        ReaderAnswer(
            (
                AnswerFinding("fever", "Fever", Polarity.ABSENT),
                AnswerFinding("osteomyelitis", "Osteomyelitis", Polarity.ABSENT),
                AnswerFinding("pulmonary embolism", "Pulmonary Embolism", temporality=_PAST),
                AnswerFinding("gout", "Gout", temporality=_PAST),
                AnswerFinding("stroke", "Stroke", experiencer=_FAMILY),
                AnswerFinding("asthma", "Asthma", experiencer=_FAMILY),
            )
        ),
    ),
    (
        "Possible pancreatitis. Come back if vomiting starts. Known psoriasis. Potassium of 3.1 mmol/L today.",
        ReaderAnswer(
            (
                AnswerFinding("pancreatitis", "Pancreatitis", Polarity.UNCERTAIN),
                AnswerFinding("vomiting", "Vomiting", temporality=_PLANNED),
                AnswerFinding("psoriasis", "Psoriasis"),
            ),
            (AnswerValue("Potassium of 3.1 mmol/L", "potassium", 3.1),),
        ),
    ),
)


@dataclass(frozen=True)
class ExamplePrompt:
    """ExamplePrompt(prompt): the same question after examples; the answer is lines (see `compact_format`)."""

    prompt: Prompt

    @property
    def messages(self) -> tuple[Message, ...]:
        system, asked = CompactPrompt(self.prompt).messages
        return system, *_examples(), asked

    @property
    def schema(self) -> Mapping[str, Any]:
        return self.prompt.schema

    @property
    def grammar(self) -> str:
        return CompactPrompt(self.prompt).grammar


def _examples() -> Iterator[Message]:
    for text, answer in EXAMPLES:
        yield Prompt(Window(text, 0, (), "progress_note", "")).messages[1]
        yield Message("assistant", in_lines(answer))
