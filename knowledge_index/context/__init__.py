"""The context of a mention in clinical text: polarity, temporality and experiencer, by rules."""

from knowledge_index.context.assertion import Experiencer, MentionContext, Polarity, Temporality
from knowledge_index.context.text_context import TextContext
from knowledge_index.context.triggers import LANGUAGES

__all__ = [
    "LANGUAGES",
    "Experiencer",
    "MentionContext",
    "Polarity",
    "Temporality",
    "TextContext",
]
