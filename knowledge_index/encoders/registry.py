"""Text encoders by name.

    encoder_named("minilm")                     the default: all-MiniLM-L6-v2 as int8 ONNX, no torch
    encoder_named("static")                     its word piece embeddings only: far faster, closer to word matching
    encoder_named("hf:FOLDER")                  a model folder as Hugging Face publishes them
    encoder_named("medcpt:FOLDER")              the same with a configuration shipped with riskcards (`families`)
    encoder_named("encoder.yaml")               a configuration of your own (`configuration`), YAML or JSON

An encoder can be opened again by its own `name`: folders in it are absolute. The guide is `docs/encoders.md`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from knowledge_index.core.errors import EncoderError
from knowledge_index.encoders.families import configuration_named, download_of
from knowledge_index.encoders.minilm import MiniLMEncoder
from knowledge_index.encoders.protocol import Encoder, QueryEncoder, encode_queries
from knowledge_index.encoders.sentence_modules import check_weights

__all__ = [
    "DEFAULT",
    "Encoder",
    "MiniLMEncoder",
    "QueryEncoder",
    "available_threads",
    "check_encoder",
    "encode_queries",
    "encoder_named",
]


DEFAULT = MiniLMEncoder.name


def _static(_threads: int) -> Encoder:
    from knowledge_index.encoders.static import StaticEncoder

    return StaticEncoder()


SHIPPED: Mapping[str, Callable[[int], Encoder]] = {
    "minilm": MiniLMEncoder,
    MiniLMEncoder.name: MiniLMEncoder,
    "static": _static,
}


def encoder_named(name: str, threads: int = 1) -> Encoder:
    """The encoder of that name (see the module docstring). `threads` applies to the default encoder.

    Raises EncoderError; for an unknown name it lists the known ones, for a missing package the extra to install.
    """
    if name in SHIPPED:
        return SHIPPED[name](threads)
    configuration = configuration_named(name)
    from knowledge_index.encoders.transformer import TransformerEncoder

    return TransformerEncoder(configuration)


def check_encoder(name: str) -> None:
    """Raises EncoderError where `encoder_named` would, without opening weights: call it before hours of work."""
    if name in SHIPPED:
        return
    from knowledge_index.encoders.transformer import check_packages

    configuration = configuration_named(name)
    try:
        for folder in (configuration.model, configuration.query_model):
            if folder is not None:
                check_weights(folder)
    except EncoderError as error:
        download = download_of(name)
        raise EncoderError(f"{error}; the folder is to hold {download}") if download else error from None
    check_packages()


def available_threads() -> int:
    """Processors this process may use, or as many as OMP_NUM_THREADS says: one in a worker among others."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(here, max(1, int(asked))) if asked.isdecimal() else here
