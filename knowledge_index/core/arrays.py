"""Arrays and lists of an index: `.npy` files without pickle, mapped from disk, their dtype and shape checked."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_index.core.errors import ArtifactError


def save_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def new_array(folder: Path, name: str, dtype: type[np.generic], count: int) -> NDArray[Any]:
    """An array of shape (count,) to be filled, mapped to the file that `save_array` would write."""
    if not count:
        save_array(folder, name, np.zeros(0, dtype))
        return np.zeros(0, dtype)
    mapped: NDArray[Any] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count,))
    return mapped


def load_array(folder: Path, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """An array mapped from disk; None in `shape` matches any length. `ArtifactError` for another dtype or shape."""
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot be read: {error}", path=str(path)) from error
    fits = array.dtype == dtype and len(array.shape) == len(shape)
    if not fits or any(want is not None and want != have for want, have in zip(shape, array.shape, strict=True)):
        raise ArtifactError(f"{array.dtype}{array.shape}, expected {np.dtype(dtype)}{shape}", path=str(path))
    return array


def load_json(path: Path, count: int) -> list[Any]:
    """The list of `count` items in a JSON file; `ArtifactError` for anything else."""
    content = orjson.loads(path.read_bytes())
    if not isinstance(content, list) or len(content) != count:
        raise ArtifactError(f"expected a list of {count}", path=str(path))
    return content


def release_pages(*arrays: NDArray[Any]) -> None:
    """Frees the memory pages of mapped arrays after a full scan; they are read again where needed."""
    for array_ in arrays:
        mapped = getattr(array_, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
