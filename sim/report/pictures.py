"""Records as pictures: images as PNG, signals as lines that take the colours of the page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup

from sim.report.style import SERIES
from sim.results import Picture

Record = Float[np.ndarray, "..."]

_LEVELS = 255
_WIDE, _HIGH = 200, 110  # of a drawing of lines, in its own units
_COLOUR = {1: 0, 3: 2}  # channels -> PNG's colour type


def picture(record: Record, lowest: float, highest: float) -> Picture:
    """A record of shape (channels, height, width) or (channels, length), one byte a value; values outside are cut."""
    scaled = (record.astype(np.float64) - lowest) / max(highest - lowest, np.finfo(np.float64).tiny)
    values = np.rint(np.clip(np.nan_to_num(scaled), 0, 1) * _LEVELS).astype(np.uint8)
    return Picture(
        shape=record.shape, values=base64.b64encode(values.tobytes()).decode(), lowest=lowest, highest=highest
    )


def drawn(shown: Picture, alt: str) -> Markup:
    """The picture as HTML, with its text alternative: a PNG within the page, or lines."""
    values = np.frombuffer(base64.b64decode(shown.values), np.uint8).reshape(shown.shape)
    if len(shown.shape) == 3:
        source = f"data:image/png;base64,{base64.b64encode(png(values)).decode()}"
        return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(source, alt, *shown.shape[:0:-1])
    return _lines(values, alt)


def png(image: UInt8[np.ndarray, "channels height width"]) -> bytes:
    """A PNG of one grey channel, or of red, green and blue; of other numbers of channels the first."""
    channels = image if len(image) in _COLOUR else image[:1]
    count, height, width = channels.shape
    rows = np.moveaxis(channels, 0, -1).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR[count], 0, 0, 0)
    unfiltered = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _lines(values: UInt8[np.ndarray, "channels length"], alt: str) -> Markup:
    x = np.linspace(0, _WIDE, values.shape[1])
    y = (1 - values / _LEVELS) * _HIGH
    lines = Markup("").join(
        Markup('<polyline points="{}" stroke="{}"/>').format(
            " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, row, strict=True)), SERIES[number % len(SERIES)]
        )
        for number, row in enumerate(y)
    )
    return Markup('<svg class="lines" viewBox="0 -2 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDE, _HIGH + 4, alt, lines
    )
