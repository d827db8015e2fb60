"""Text encoders by name; heavy packages are imported only by the encoder that needs them."""

from knowledge_index.encoders.long_text import encode_long, weighted_mean
from knowledge_index.encoders.protocol import takes_instruction
from knowledge_index.encoders.registry import DEFAULT, SHIPPED, available_threads, check_encoder, encoder_named
from knowledge_index.encoders.vector_cache import CachedEncoder

__all__ = [
    "DEFAULT",
    "SHIPPED",
    "CachedEncoder",
    "available_threads",
    "check_encoder",
    "encode_long",
    "encoder_named",
    "takes_instruction",
    "weighted_mean",
]
