"""A model file as a C array, aligned to 16 bytes as TFLite Micro wants it, for C11 and C++11 compilers."""

from __future__ import annotations

from hashlib import sha256

_PER_LINE = 16


def symbol(name: str) -> str:
    """What the array is called: the name with underscores, and `_model`."""
    return f"{name.replace('-', '_')}_model"


def header(name: str, model: bytes) -> str:
    """`NAME.h`: the array and its length."""
    array = symbol(name)
    guard = f"SEEPAGE_{array.upper()}_H_"
    return f"""// {name}: a TensorFlow Lite model of {len(model)} bytes.
// SHA-256 {sha256(model).hexdigest()}
#ifndef {guard}
#define {guard}

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char {array}[];  // aligned to 16 bytes
extern const unsigned int {array}_len;

#ifdef __cplusplus
}}
#endif

#endif  // {guard}
"""


def source(name: str, model: bytes) -> str:
    """`NAME.cc`: the bytes."""
    array = symbol(name)
    lines = "\n".join(_line(model[start : start + _PER_LINE]) for start in range(0, len(model), _PER_LINE))
    return f"""#include "{name}.h"

#ifndef __cplusplus
#include <stdalign.h>
#endif

alignas(16) const unsigned char {array}[] = {{
{lines}
}};
const unsigned int {array}_len = {len(model)};
"""


def _line(part: bytes) -> str:
    return "    " + " ".join(f"0x{byte:02x}," for byte in part)
