"""Messages between the parent, the child and the process of one job: a JSON header and blocks of bytes.

Each is the header's length in four bytes, the header, then the blocks, whose lengths the header's `sizes` gives.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Final

HEADER_BYTES: Final = 4 << 20  # no header is longer
Header = dict[str, Any]


class UnreadableError(ValueError):
    """The bytes are not such a message."""


def message(header: Header, *blocks: bytes) -> bytes:
    """One message."""
    text = json.dumps({**header, "sizes": [len(block) for block in blocks]}, allow_nan=False).encode()
    if len(text) > HEADER_BYTES:
        raise UnreadableError(f"a header of {len(text)} bytes; {HEADER_BYTES} at most")
    return b"".join((struct.pack("!I", len(text)), text, *blocks))


def receive(read: Callable[[int], bytes], most: int) -> tuple[Header, list[bytes]]:
    """Take one message, of blocks that are `most` bytes together at the most, from `read`, which gives n bytes.

    Raises `EOFError` where there is no message, and `UnreadableError` for anything that is not one.
    """
    start = read(4)
    if not start:
        raise EOFError
    header = _header(read, start)
    sizes = header.get("sizes")
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > most:
        raise UnreadableError("a header with sizes that cannot be")
    blocks = [read(size) for size in sizes]
    if any(len(block) != size for block, size in zip(blocks, sizes, strict=True)):
        raise UnreadableError("a block is cut short")
    return header, blocks


def _header(read: Callable[[int], bytes], start: bytes) -> Header:
    length = struct.unpack("!I", start)[0] if len(start) == 4 else 0
    if not 0 < length <= HEADER_BYTES:
        raise UnreadableError("a header with a length that cannot be")
    try:
        header = json.loads(read(length))
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, a number of too many digits
        raise UnreadableError("a header that is not JSON") from error
    if not isinstance(header, dict):
        raise UnreadableError("a header that is not a table")
    return header
