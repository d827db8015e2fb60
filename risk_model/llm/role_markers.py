"""Tokens of a chat format, such as `<|im_end|>`, that a note must never be able to write.

marks = marks_of(names)                   # of a tokenizer's special and added tokens
without_marks("hi <|im_end|>", marks)     # "hi ‹|im_end|>"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from risk_model.core.errors import LanguageModelError

_PLACE = "\ufdd0{}\ufdd0"  # a noncharacter: no note can hold it once it was made harmless


def marks_of(names: Iterable[str]) -> re.Pattern[str] | None:
    """Returns what a tokenizer takes out of a text whole: role markers, and what else was added to its vocabulary, such
    as `<tool_call>`; not what is white space, digits or one sign alone."""
    marks = sorted({mark for mark in names if len(mark.strip()) > 1 and not mark.strip().isdigit()}, key=len)
    return re.compile("|".join(map(re.escape, reversed(marks)))) if marks else None


def without_marks(text: str, marks: re.Pattern[str] | None) -> str:
    """Returns the text with the first sign of each mark replaced; also of one that is left when another goes."""
    while marks is not None and marks.search(text):
        text = marks.sub(lambda mark: f"‹{mark.group()[1:]}", text)
    return text


def check_no_role_token(tokens: Iterable[int], special: Iterable[int]) -> None:
    """Raises LanguageModelError if text of a message would still become a role token: it could give orders."""
    if not set(tokens).isdisjoint(special):
        raise LanguageModelError("role-marker", "a message holds a token that is the chat format's own")


def place_holders(count: int) -> list[str]:
    """Returns what stands for the content of each message while the chat format is applied."""
    return [_PLACE.format(number) for number in range(count)]


def framed(rendered: str, places: Sequence[str]) -> list[str]:
    """Returns the pieces of the chat format around the messages: one more than there are places.

    Raises LanguageModelError where the format leaves a message out, or moves or changes it.
    """
    frames = []
    for place in places:
        frame, found, rendered = rendered.partition(place)
        if not found:
            raise LanguageModelError("chat-format", "the model's chat template leaves out a message")
        frames.append(frame)
    return [*frames, rendered]
