"""Arrays as safetensors files whose data begins on a page, and stored bits as float32.

The header is padded with spaces, which every safetensors reader accepts, so that maps line up.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from store.files import Hashing

PAGE = 4096

STORED: dict[str, np.dtype] = {
    "f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "bf16": np.dtype("<u2"),
}  # fmt: skip
"""How numpy holds each dtype of rows; bf16 as bits."""

_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip


def dtype_name(key: str, array: np.ndarray) -> str:
    """Name an array's dtype as safetensors does; raises ValueError when it has no name there."""
    if array.dtype.name not in _NAMES:
        raise ValueError(
            f"array {key!r} is {array.dtype}: safetensors hold {', '.join(_NAMES)}; convert it"
        )
    return _NAMES[array.dtype.name]


def header(
    arrays: Mapping[str, np.ndarray], dtype: str | None, metadata: Mapping[str, str]
) -> bytes:
    """Describe arrays that will follow in order; its length is a whole number of pages.

    `dtype` overrides what the arrays say of themselves (BF16 for bits).
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for key, array in arrays.items():
        if key == "__metadata__":
            raise ValueError("an array cannot be called __metadata__: rename it")
        end = start + array.nbytes
        entries[key] = {
            "dtype": dtype or dtype_name(key, array),
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % PAGE)
    return len(text).to_bytes(8, "little") + text


def write(file: Hashing, head: bytes, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a header and its arrays, which must be little-endian and contiguous."""
    file.write(head)
    for array in arrays.values():
        if array.nbytes:
            file.write(array.reshape(-1).view(np.uint8).data)


def to_float32(rows: Shaped[np.ndarray, "row d"]) -> Float32[np.ndarray, "row d"]:
    """Decode stored rows (float32, float16, or bf16 bits in uint16)."""
    return decode(rows, np.empty(rows.shape, np.float32))


def decode(
    rows: Shaped[np.ndarray, "row d"], out: Float32[np.ndarray, "row d"]
) -> Float32[np.ndarray, "row d"]:
    """Decode stored rows into memory that is there already; returns it."""
    if rows.dtype == np.uint16:
        np.left_shift(rows, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        out[...] = rows
    return out
