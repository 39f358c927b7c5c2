"""Messages as bytes: the only place that knows msgpack.

A message is a header and its arrays. The header is a msgpack map
``{"v": 1, "kind": "PoisFound", "fields": {...}, "arrays": [[dtype, shape], ...]}``; an array in
the fields stands as ``{"array": index}`` and its bytes follow in a frame of their own, compressed if
its description has a third entry (see `packing`). New fields get defaults, unknown fields are ignored,
a field never changes type. Whatever comes in is checked against the types in `messages` before it
becomes a message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import msgspec
import numpy as np

from .errors import SparseActorsError, WireError
from .messages import KINDS, Message
from .packing import METHOD, unpacked

VERSION = 1
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_FRAME_BYTES = 1 << 30
MAX_ARRAYS = 16
DTYPES = ("bool", "uint8", "uint16", "uint32", "int32", "int64", "float32", "float64")

Frames = Sequence[bytes | memoryview]


def encode(
    message: Message, pack: Callable[[np.ndarray[Any, Any]], bytes | None] = lambda array: None
) -> list[bytes | memoryview]:
    """Return [header, array, array ...]; the arrays are not copied.

    Parameters
    ----------
    pack
        Returns an array compressed as `packing.packed` does, or None to send it as it is.
    """
    arrays: list[np.ndarray[Any, Any]] = []

    def take(value: object) -> object:
        if isinstance(value, np.ndarray):
            arrays.append(np.asarray(value, order="C"))
            return {"array": len(arrays) - 1}
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{type(value).__name__} cannot be sent")

    content = msgspec.to_builtins(message, enc_hook=take)
    blocks = [pack(a) for a in arrays]
    described = [
        [a.dtype.name, list(a.shape), *([METHOD] if block is not None else [])]
        for a, block in zip(arrays, blocks, strict=True)
    ]
    header = {"v": VERSION, "kind": type(message).__name__, "fields": content, "arrays": described}
    packed: bytes = msgpack.packb(header)
    raw = (a.data.cast("B") if a.size else b"" for a in arrays)
    frames = (plain if block is None else block for plain, block in zip(raw, blocks, strict=True))
    return [packed, *frames]


def decode(frames: Frames, *, may_be_packed: bool = False) -> Message:
    """Turn frames back into a message with read-only arrays.

    Parameters
    ----------
    may_be_packed
        Take compressed arrays. From a peer that is not trusted they could be a thousand times larger
        than what came.

    Raises
    ------
    WireError
        Anything that is not a complete, well-typed message of this version.
    """
    try:
        return _decoded(frames, may_be_packed)
    except RecursionError:
        # From the conversion, the search for odd numbers, or the text of an error.
        raise WireError("nested too deeply") from None


def _decoded(frames: Frames, may_be_packed: bool) -> Message:
    if not frames or len(frames) > MAX_ARRAYS + 1:
        raise WireError(f"expected a header and at most {MAX_ARRAYS} arrays, got {len(frames)} frames")
    header = _unpacked(frames[0])
    version = header.get("v") if isinstance(header, dict) else None
    if type(version) is not int or version != VERSION:
        raise WireError(f"not a message of wire version {VERSION}")
    kind = header.get("kind")
    message_type = KINDS.get(kind) if isinstance(kind, str) else None
    if message_type is None:
        raise WireError(f"unknown message {str(kind)[:40]!r}")
    arrays = _arrays(header.get("arrays"), frames[1:], may_be_packed)

    def give(wanted: type, value: object) -> object:
        index = value.get("array") if isinstance(value, dict) else None
        if type(index) is not int or not 0 <= index < len(arrays):
            raise ValueError("expected an array")
        return arrays[index]

    try:
        message: Message = msgspec.convert(header.get("fields"), message_type, strict=True, dec_hook=give)
    except (msgspec.ValidationError, SparseActorsError, ValueError, TypeError) as error:
        raise WireError(f"{kind}: {error}") from None
    if _has_odd_number(header["fields"]):
        raise WireError(f"{kind}: holds a number that is not finite")
    return message


def pack(message: Message) -> bytes:
    """Return one block of bytes with everything in it, for a file."""
    packed: bytes = msgpack.packb([bytes(frame) for frame in encode(message)])
    return packed


def unpack(block: bytes) -> Message:
    """Turn a block from `pack` back into the message; raises WireError."""
    frames = _unpacked(block)
    if not isinstance(frames, list) or not all(isinstance(frame, bytes) for frame in frames):
        raise WireError("expected a list of frames")
    return decode(frames)


def _unpacked(block: bytes | memoryview) -> Any:
    if len(block) > MAX_HEADER_BYTES:
        raise WireError(f"{len(block)} bytes are more than a header may have")
    try:
        return msgpack.unpackb(block, strict_map_key=True, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"not msgpack: {type(error).__name__} {str(error)[:100]}") from None


def _arrays(described: object, frames: Frames, may_be_packed: bool) -> list[np.ndarray[Any, Any]]:
    if not isinstance(described, list) or len(described) != len(frames):
        raise WireError(f"the header does not describe the {len(frames)} arrays that came")
    arrays = []
    for entry, frame in zip(described, frames, strict=True):
        match entry:
            case [str(dtype), list(shape)] if dtype in DTYPES and len(shape) <= 4:
                is_packed = False
            case [str(dtype), list(shape), str(method)] if (
                method == METHOD and may_be_packed and dtype in DTYPES and len(shape) <= 4
            ):
                is_packed = True
            case _:
                raise WireError(f"array described as {str(entry)[:80]!r}: expected [dtype, shape]")
        if not all(type(n) is int and 0 <= n <= MAX_FRAME_BYTES for n in shape):
            raise WireError(f"array shape {str(shape)[:80]} is not a list of sizes")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > MAX_FRAME_BYTES or (size != len(frame) and not is_packed):
            raise WireError(f"array {dtype} {shape} needs {size} bytes, got {len(frame)}")
        if is_packed:
            array = unpacked(frame, np.dtype(dtype), tuple(shape))
        else:
            array = np.frombuffer(frame, dtype=dtype).reshape(shape)
        if not array.flags.aligned:
            # A socket's buffer may begin at an odd address, where compiled detectors expect none.
            array = array.copy()
        array.flags.writeable = False
        arrays.append(array)
    return arrays


def _has_odd_number(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_has_odd_number(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_odd_number(item) for item in value)
    return False
