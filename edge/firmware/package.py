"""Firmware as it is handed on: sources, ELF file and how to make the one from the other."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from edge.firmware.building import ELF, Firmware
from edge.firmware.cores import CORES, KERNELS
from edge.firmware.running import TICK, Run, command
from edge.firmware.toolchain import GCC, FirmwareError, versions

README = """# Firmware for {title}

Made from the TFLite model with SHA-256
`{sha256}`
by bakenn {bakenn} with {kernels}.

## Compile

With `{gcc}` this gives `{elf}` byte for byte:

```
{compile}
```

## Run

`records.bin` is the number of records (4 bytes, little-endian), 12 bytes of zeros, then {input_bytes} bytes of int8 per
record, channels last. `answers.bin` will be {output_bytes} bytes of int8 per record, then eight 32-bit numbers: a mark,
the number of records done, the deepest stack in bytes, the ticks of all inferences (low and high word) and those of the
longest, and two of padding. A tick is {tick} instructions.

```
{run}
```

The program uses no semihosting: the emulated board cannot reach the machine it is emulated on.

## In an application

Take every source but `start.c`, `main.c` and `link.ld`, which are for the emulated board, and call `model_infer`
(`bench.h`). It needs {working:,} bytes of RAM beside the stack ({arena:,} planned by bakenn, {buffers:,} between its
stretches and at both ends), and in flash {code:,} bytes of code and {weights:,} of weights and tables.
{four_bits}"""
FOUR_BITS = """
The model's weights of four bits are unpacked to 8 bits each when firmware is generated, so this firmware takes the
flash and the RAM of the int8 model: here int4 saves nothing, and costs accuracy. It halves the `.tflite` file, which an
interpreter reads from flash.
"""


def pack(firmware: Firmware, folder: Path) -> list[Path]:
    """Copy sources and ELF file into an empty folder, with a README; returns the files, relative to it and sorted.

    The same firmware gives the same bytes. Raises `FirmwareError` if the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FirmwareError(f"{folder} is not empty: firmware is packed into a folder of its own")
    shutil.copytree(firmware.folder, folder, dirs_exist_ok=True)
    (folder / "README.md").write_text(_readme(firmware))
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def facts(firmware: Firmware, run: Run | None = None) -> dict[str, object]:
    """What a manifest says of firmware: numbers in bytes and instructions, and with what it was made."""
    return {
        "core": firmware.core,
        "kernels": firmware.kernels,
        "model_sha256": firmware.sha256,
        "weights_unpacked_from_four_bits": firmware.four_bits,
        "arena_bytes": firmware.arena_bytes,
        "buffers_bytes": firmware.buffers_bytes,
        "flash_bytes": {**asdict(firmware.sizes), "text": firmware.sizes.text},
        "emulated": None if run is None else _counted(run),
        "made_with": {"bakenn": version("bakenn"), **versions()},
    }


def _counted(run: Run) -> dict[str, int]:
    return {
        "records": len(run.outputs),
        "instructions": run.instructions,
        "most_instructions": run.most_instructions,
        "stack_bytes": run.stack_bytes,
    }


def _readme(firmware: Firmware) -> str:
    core = CORES[firmware.core]
    return README.format(
        title=core.title,
        sha256=firmware.sha256,
        bakenn=version("bakenn"),
        kernels=KERNELS[firmware.kernels],
        gcc=versions().get(GCC, GCC),
        elf=ELF,
        compile=shlex.join(firmware.command),
        input_bytes=firmware.input_bytes,
        output_bytes=firmware.output_bytes,
        tick=TICK,
        run=shlex.join(command(core.machine, core.records)),
        working=firmware.working_bytes,
        arena=firmware.arena_bytes,
        buffers=firmware.buffers_bytes,
        code=firmware.sizes.code,
        weights=firmware.sizes.weights,
        four_bits=FOUR_BITS if firmware.four_bits else "",
    )
