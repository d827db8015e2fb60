"""The context medspacy gives to mentions, in a process of its own: `python medspacy_way.py FILE`.

FILE is JSON: a list of {"text", "spans": [[start, end], ...]}. Answers with JSON: {"seconds", "said"}: seconds of the
processor, and for each text and span the flags [negated, uncertain, historical, hypothetical, family]. Its default
rules, as `medspacy.load` sets them up: PyRuSH sentences, ConText, sections. Nothing but medspacy is imported, so that
it runs in the environment of `make peers`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

FLAGS = ("is_negated", "is_uncertain", "is_historical", "is_hypothetical", "is_family")


def main() -> None:
    import medspacy
    from loguru import logger
    from spacy.util import filter_spans

    logger.disable("")  # PyRuSH logs every sentence it finds
    nlp = medspacy.load(medspacy_enable=["medspacy_pyrush", "medspacy_context", "medspacy_sectionizer"])

    def read(text: str, spans: list[list[int]]) -> list[list[bool]]:
        doc = nlp.make_doc(text)
        named = [doc.char_span(start, end, label="FINDING", alignment_mode="expand") for start, end in spans]
        doc.ents = filter_spans([span for span in named if span is not None])
        for _, component in nlp.pipeline:
            doc = component(doc)
        found = {token.i: entity for entity in doc.ents for token in entity}
        return [_flags(None if span is None else found.get(span.start)) for span in named]

    asked = json.loads(Path(sys.argv[1]).read_text())
    read("No cough.", [[3, 8]])  # what is made at the first text is not counted
    begun = time.process_time()
    said = [read(item["text"], item["spans"]) for item in asked]
    print(json.dumps({"seconds": time.process_time() - begun, "said": said}))


def _flags(entity: Any) -> list[bool]:
    """Nothing is said of a mention that has no words of its own."""
    return [bool(entity is not None and getattr(entity._, flag)) for flag in FLAGS]


if __name__ == "__main__":
    main()
