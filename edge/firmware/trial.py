"""Whether the toolchain works here: the smallest program built and run, without any model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from edge.firmware.building import ELF, Firmware, Sizes
from edge.firmware.cores import CORES
from edge.firmware.generate import SOURCES
from edge.firmware.running import run
from edge.firmware.toolchain import GCC, FirmwareError, call, versions

CORE: Final = "cortex-m4"
_MODEL: Final = '#include "bench.h"\nvoid model_infer(const int8_t *input, int8_t *output) { output[0] = -input[0]; }\n'
_SIZES: Final = (
    f"#define MODEL_INPUT_BYTES 1u\n#define MODEL_OUTPUT_BYTES 1u\n#define RECORDS 0x{CORES[CORE].records:X}u\n"
)


def tried() -> tuple[str | None, str]:
    """What does not work, or None, and which versions of the tools were tried; takes a fraction of a second.

    The program answers each number with its negative.
    """
    found = "; ".join(versions().values())
    try:
        with tempfile.TemporaryDirectory() as name:
            outputs = run(_negating(Path(name)), np.asarray([[5], [-7]], dtype=np.int8), seconds=30).outputs
    except FirmwareError as error:
        return str(error), found
    return None if outputs.tolist() == [[-5], [7]] else f"the emulated board computes {outputs.tolist()}", found


def _negating(folder: Path) -> Firmware:
    for name in ("start.c", "main.c", "bench.h", "link.ld"):
        (folder / name).write_bytes((SOURCES / name).read_bytes())
    (folder / "model.c").write_text(_MODEL)
    (folder / "model.h").write_text(_SIZES)
    command = (GCC, *CORES[CORE].flags, "-O2", "start.c", "main.c", "model.c")
    command = (*command, "-nostartfiles", "-T", "link.ld", "-o", ELF)
    call(command, folder, seconds=30)
    return Firmware(folder, CORE, "portable", 1, 1, 0, 0, Sizes(0, 0, 0, 0, 0, 0), command, "")
