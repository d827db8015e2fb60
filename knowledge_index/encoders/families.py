"""Configurations shipped with riskcards for models that users download: FAMILY:FOLDER opens the model in FOLDER.

Each follows its authors' usage. Weights have their authors' licences and are not shipped. Folders are relative to
FOLDER. `docs/encoders.md` lists the downloads and when to choose which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from knowledge_index.core.errors import EncoderError
from knowledge_index.encoders.configuration import SUFFIXES, EncoderConfiguration, in_folder, of_file, of_folder

_ASKED = "Given a clinical question, retrieve passages from the medical literature that answer it"
_HERE = Path()

FAMILIES: Mapping[str, EncoderConfiguration] = {
    # Jin et al., "MedCPT", Bioinformatics 2023. Two BERTs, the first token of each. Its authors rank by inner product;
    # our indexes hold unit vectors, so this ranks by cosine.
    "medcpt": EncoderConfiguration(
        "medcpt", Path("MedCPT-Article-Encoder"), "cls", query_model=Path("MedCPT-Query-Encoder"), max_tokens=512
    ),
    # Zhang et al., "Qwen3 Embedding", 2025. The last token, the end mark; an instruction for queries only.
    "qwen3-embedding": EncoderConfiguration(
        "qwen3-embedding", _HERE, "last_token", query_template="Instruct: {instruction}\nQuery:{text}",
        instruction=_ASKED, end_mark="<|endoftext|>", max_tokens=8192, padding_side="left",
    ),
    # BehnamGhader et al., "LLM2Vec", COLM 2024. Bidirectional attention in a causal model, mean over the text without
    # the instruction. The folder holds the model with its adapters merged in.
    "llm2vec": EncoderConfiguration(
        "llm2vec", _HERE, "mean", pool_over="text", bidirectional=True, query_template="{instruction}: {text}",
        instruction=_ASKED, max_tokens=512,
    ),
    # The same for whole records, as in arXiv 2502.17403: one pass over up to 8,192 tokens.
    "llm2vec-records": EncoderConfiguration(
        "llm2vec-records", _HERE, "mean", pool_over="text", bidirectional=True,
        query_template="Instruct: {instruction}\nQuery:\n{text}", instruction=_ASKED, max_tokens=8192,
    ),
    # Li et al., "Towards general text embeddings", 2023; the model cards of gte-Qwen2-1.5B-instruct and -7B-instruct.
    # Attention both ways over a causal model, the last token, the end mark; an instruction for queries only.
    "gte-qwen2": EncoderConfiguration(
        "gte-qwen2", _HERE, "last_token", bidirectional=True,
        query_template="Instruct: {instruction}\nQuery: {text}", instruction=_ASKED, end_mark="<|endoftext|>",
        max_tokens=8192, padding_side="left",
    ),
    # Devlin et al. 2019, and models of the same kind (Bio_ClinicalBERT, PubMedBERT, DeBERTa, RoBERTa): the mean over
    # pieces of 512 tokens, no instruction.
    "bert": EncoderConfiguration("bert", _HERE, "mean", max_tokens=512),
    # Wang et al., "Text embeddings by weakly-supervised contrastive pre-training", 2022.
    "e5": EncoderConfiguration(
        "e5", _HERE, "mean", query_template="query: {text}", document_template="passage: {text}", max_tokens=512
    ),
    # Wang et al., "Improving text embeddings with large language models", 2024 (e5-mistral-7b-instruct).
    "e5-instruct": EncoderConfiguration(
        "e5-instruct", _HERE, "last_token", query_template="Instruct: {instruction}\nQuery: {text}",
        instruction=_ASKED, end_mark="</s>", max_tokens=4096,
    ),
    # Xiao et al., "C-Pack", 2023: English models, version 1.5.
    "bge": EncoderConfiguration(
        "bge", _HERE, "cls", query_template="Represent this sentence for searching relevant passages: {text}",
        max_tokens=512,
    ),
}  # fmt: skip


DOWNLOADS: Mapping[str, str] = {
    "medcpt": "ncbi/MedCPT-Article-Encoder and ncbi/MedCPT-Query-Encoder, side by side",
    "qwen3-embedding": "Qwen/Qwen3-Embedding-0.6B, -4B or -8B",
    "llm2vec": "McGill-NLP/LLM2Vec-Meta-Llama-31-8B-Instruct-mntp, its adapters merged (docs/encoders.md)",
    "gte-qwen2": "Alibaba-NLP/gte-Qwen2-1.5B-instruct or -7B-instruct",
    "bert": "google-bert/bert-base-uncased, emilyalsentzer/Bio_ClinicalBERT or another BERT",
    "e5": "intfloat/e5-base-v2 or another e5",
    "e5-instruct": "intfloat/e5-mistral-7b-instruct",
    "bge": "BAAI/bge-small-en-v1.5 or another bge-*-en-v1.5",
}
"""What FOLDER holds, by family: the names of the published models."""


def download_of(name: str) -> str | None:
    """Returns what to download for FAMILY:FOLDER; None for a name of another form.

    >>> download_of("gte-qwen2:/models/gte")
    'Alibaba-NLP/gte-Qwen2-1.5B-instruct or -7B-instruct'
    """
    return DOWNLOADS.get(name.partition(":")[0].removesuffix("-records")) if ":" in name else None


def configuration_named(name: str) -> EncoderConfiguration:
    """The configuration of that name. Raises EncoderError; for an unknown name it lists the known ones."""
    family, colon, folder = name.partition(":")
    if colon and family == "hf":
        return of_folder(Path(folder).expanduser().resolve())
    if colon and family in FAMILIES:
        return in_folder(FAMILIES[family], family, Path(folder).expanduser().resolve())
    if name.endswith(SUFFIXES):
        return of_file(Path(name).expanduser().resolve())
    known = ", ".join(f"{family}:FOLDER" for family in ("hf", *sorted(FAMILIES)))
    raise EncoderError(
        f"no encoder named {name!r}; there is: minilm (all-MiniLM-L6-v2-int8), static, {known}, "
        "and configuration files (*.yaml, *.json)"
    )
