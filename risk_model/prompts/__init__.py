"""What a language model is asked and what it answers: prompts, grammars, answers, opinions."""

from risk_model.prompts.answers import ReaderAnswer, complete_json
from risk_model.prompts.note_prompt import Message, Prompt, Window
from risk_model.prompts.opinion import Opinion
from risk_model.prompts.risk_prompt import RiskPrompt

__all__ = [
    "Message",
    "Opinion",
    "Prompt",
    "ReaderAnswer",
    "RiskPrompt",
    "Window",
    "complete_json",
]
