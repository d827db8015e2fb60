"""The modules of a sentence-transformers folder: what is computed after the transformer.

`modules.json` lists modules that are applied in order: `Transformer`, `Pooling`, then any number of `Dense` layers and
`Normalize`. EmbeddingGemma has two Dense layers, LaBSE one with tanh; vectors made without them look like vectors and
mean something else. What cannot be computed here is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.errors import EncoderError, not_installed
from knowledge_index.encoders.protocol import Vectors

MODULES = "modules.json"
_ACTIVATIONS: Mapping[str, Callable[[Vectors], Vectors]] = {
    "Identity": lambda values: values,
    "Tanh": np.tanh,
    "ReLU": lambda values: np.maximum(values, 0),
}
_IGNORED = frozenset({"Dropout"})
"""Without effect outside training."""


@dataclass(frozen=True, slots=True)
class Module:
    """One entry of `modules.json`: the last part of its type, and the folder of its files."""

    kind: str
    folder: Path


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """`transformer` and `pooling` are folders; `after` are the Dense layers and Normalize steps, in order."""

    transformer: Path
    pooling: Path
    after: tuple[Module, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that decide the vectors, apart from the transformer's."""
        dense = (module.folder for module in self.after if module.kind == "Dense")
        return tuple(folder / name for folder in dense for name in ("config.json", "model.safetensors"))


def modules_of(folder: Path) -> SentenceModules:
    """The modules of a model folder; a folder without `modules.json` is a transformer alone.

    Raises EncoderError where a module is unknown, stands in an unexpected place, or names a file outside the folder.
    """
    path = folder / MODULES
    if not path.is_file():
        return SentenceModules(folder, folder / "1_Pooling")
    listed = [module for module in _listed(path) if module.kind not in _IGNORED]
    kinds = [module.kind for module in listed]
    unknown = [kind for kind in kinds[2:] if kind not in ("Dense", "Normalize")]
    if kinds[:2] != ["Transformer", "Pooling"]:
        unknown = [" then ".join(kinds[:2]) or "no module"]
    if unknown:
        wanted = "a Transformer, its Pooling, then Dense and Normalize are"
        raise EncoderError(f"{path}: {unknown[0]} is not supported; {wanted}")
    return SentenceModules(listed[0].folder, listed[1].folder, tuple(listed[2:]))


def _listed(path: Path) -> list[Module]:
    try:
        entries = json.loads(path.read_bytes())
        rows = sorted(entries, key=lambda entry: int(entry["idx"]))
        pairs = [(str(row["type"]), str(row["path"])) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EncoderError(f"{path}: not a list of modules ({type(error).__name__})") from None
    return [Module(_kind(path, kind), _inside(path, folder)) for kind, folder in pairs]


def _kind(path: Path, kind: str) -> str:
    """The class name. Classes of other packages (`pylate.models.Dense`, `custom_st.Transformer`) are other modules."""
    if not kind.startswith("sentence_transformers."):
        raise EncoderError(f"{path}: {kind} is code of another package, which is not run")
    return kind.rpartition(".")[2]


def _inside(path: Path, folder: str) -> Path:
    found = path.parent / folder
    if not found.resolve().is_relative_to(path.parent.resolve()):
        raise EncoderError(f"{path}: the module path {folder!r} leaves the folder")
    return found


class AfterPooling:
    """AfterPooling(modules, width)(pooled) applies the Dense layers and Normalize steps to vectors (texts, width).

    `width` becomes the width of the result. Raises EncoderError for a layer that does not fit, is no safetensors file,
    or has an activation that is not supported.
    """

    def __init__(self, modules: SentenceModules, width: int) -> None:
        self.width = width
        self._steps = [self._step(module) for module in modules.after]

    def __call__(self, pooled: Vectors) -> Vectors:
        for step in self._steps:
            pooled = step(pooled)
        return np.ascontiguousarray(pooled, np.float32)

    def _step(self, module: Module) -> Callable[[Vectors], Vectors]:
        if module.kind == "Normalize":
            return _normalised
        layer = dense_layer(module.folder)
        if layer.weight.shape[1] != self.width:
            raise EncoderError(
                f"{module.folder}: the layer takes {layer.weight.shape[1]} numbers, the one before gives {self.width}"
            )
        self.width = layer.weight.shape[0]
        return layer


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """`weight` has shape (out, in), `bias` shape (out,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str

    def __call__(self, values: Vectors) -> Vectors:
        return _ACTIVATIONS[self.activation](values @ self.weight.T + self.bias)


def dense_layer(folder: Path) -> DenseLayer:
    """The Dense layer in a module's folder: `config.json` and `model.safetensors`."""
    said = read_json(folder / "config.json")
    activation = str(said.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise EncoderError(f"{folder}: the activation {activation} is not supported ({', '.join(_ACTIVATIONS)} are)")
    place = said.get("module_input_name", "sentence_embedding")
    if {place, said.get("module_output_name") or place} != {"sentence_embedding"}:
        raise EncoderError(f"{folder}: a layer over {place} is not supported, only one over sentence_embedding")
    tensors = _tensors(folder / "model.safetensors")
    unknown = sorted(tensors.keys() - {"linear.weight", "linear.bias"})
    weight = tensors.get("linear.weight")
    if unknown or weight is None or weight.ndim != 2:
        raise EncoderError(f"{folder}: {unknown[0] if unknown else 'linear.weight'} is not the weight of a Dense layer")
    bias = tensors.get("linear.bias")
    if (bias is None) == bool(said.get("bias", True)) or (bias is not None and bias.shape != weight.shape[:1]):
        raise EncoderError(f"{folder}: config.json and model.safetensors disagree about the bias")
    return DenseLayer(weight, np.zeros(len(weight), np.float32) if bias is None else bias, activation)


def _tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise EncoderError(not_installed(error.name or "safetensors")) from error
    try:
        return {name: tensor.to(torch.float32).numpy() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{path}: cannot be read ({type(error).__name__})") from None


def _normalised(values: Vectors) -> Vectors:
    unit: Vectors = values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
    return unit


def check_weights(folder: Path) -> None:
    """Raises EncoderError where the transformer or a Dense layer of a folder lacks weights that may be opened."""
    modules = modules_of(folder)
    for part in (modules.transformer, *(module.folder for module in modules.after if module.kind == "Dense")):
        read_json(part / "config.json")
        if not any(part.glob("*.safetensors")):
            pickles = ("*.bin", "*.pt", "*.pth", "*.ckpt")
            others = sorted(path.name for pattern in pickles for path in part.glob(pattern))
            why = (
                f"{others[0]} is a pickle, which is not opened: convert it with safetensors" if others else "no weights"
            )
            raise EncoderError(f"{part}: no *.safetensors ({why})")


def read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object of a model folder; `missing` where the file does not exist. Raises EncoderError."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise EncoderError(f"{path.parent}: no model folder ({path.name} is missing)") from None
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise EncoderError(f"{path}: not a JSON object")
    return found
