"""A GGUF file of a few thousand weights, Llama-shaped, one token per byte, ChatML: opened by llama.cpp in no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.risk_model.tiny_models import CHAT, SPECIAL, letters

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, CONTEXT = 32, 48, 2, 2, 1, 8192
Weights = Mapping[str, NDArray[np.float32]]
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4


def save_tiny_gguf(
    path: Path, weights: Weights | None = None, added: Sequence[str] = (), chat: str = CHAT, parts: int = 1
) -> Path:
    """With `weights` (names of transformers, as `save_tiny_model` makes them) the same model; else random ones.

    `added` are tokens of the vocabulary that are not special.
    """
    from gguf import GGUFWriter

    bytes_ = letters()
    # llama.cpp wants at least one merge: one of two bytes that no text has side by side.
    merge = (bytes_[0], bytes_[1])
    tokens = [*SPECIAL, *bytes_, *added, "".join(merge)]
    kinds = [_CONTROL] * len(SPECIAL) + [_NORMAL] * len(bytes_) + [_USER_DEFINED] * len(added) + [_NORMAL]
    writer = GGUFWriter(path, "llama")
    if parts > 1:
        writer.add_uint16("split.count", parts)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge)])
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_bos_token_id(SPECIAL.index("<|im_start|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat)
    for name, value in _tensors(weights or _random(len(tokens)), len(tokens)).items():
        writer.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    kv = WIDTH // HEADS * KV_HEADS
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, WIDTH),
        "lm_head.weight": (vocabulary, WIDTH),
        "model.norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        of = f"model.layers.{layer}."
        found |= {
            f"{of}self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{of}self_attn.k_proj.weight": (kv, WIDTH),
            f"{of}self_attn.v_proj.weight": (kv, WIDTH),
            f"{of}self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{of}mlp.gate_proj.weight": (INNER, WIDTH),
            f"{of}mlp.up_proj.weight": (INNER, WIDTH),
            f"{of}mlp.down_proj.weight": (WIDTH, INNER),
            f"{of}input_layernorm.weight": (WIDTH,),
            f"{of}post_attention_layernorm.weight": (WIDTH,),
        }
    return found


def _random(vocabulary: int) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(1)
    return {
        name: np.ones(shape, np.float32) if len(shape) == 1 else generator.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in _shapes(vocabulary).items()
    }


_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _tensors(weights: Weights, vocabulary: int) -> dict[str, Any]:
    """By llama.cpp's names; rows of a token that transformers' vocabulary lacks are zero."""
    found: dict[str, Any] = {"output_norm.weight": weights["model.norm.weight"]}
    for ours, theirs in (("model.embed_tokens.weight", "token_embd.weight"), ("lm_head.weight", "output.weight")):
        rows = np.zeros((vocabulary, WIDTH), np.float32)
        rows[: len(weights[ours])] = weights[ours]
        found[theirs] = rows
    for layer in range(LAYERS):
        for ours, theirs in _NAMES.items():
            value = weights[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                value = _interleaved(value, HEADS if theirs == "attn_q" else KV_HEADS)
            found[f"blk.{layer}.{theirs}.weight"] = value
    return found


def _interleaved(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp turns neighbouring rows of a head together, transformers its halves."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)
