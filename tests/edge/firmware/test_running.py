"""The bench measures what it says it measures, and what goes wrong on the board is told."""

import re
import struct
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from edge.firmware import FirmwareError, pack, run, running, tried
from edge.firmware.cores import CORES
from edge.firmware.running import command

ROWS = np.arange(-60, 60, dtype=np.int8).reshape(6, 20)


@pytest.fixture
def patched(built, tmp_path):
    """The firmware of the small network with another body of its model."""

    def make(body, before=""):
        firmware = built("mlp")
        pack(firmware, tmp_path)
        code = (
            f'#include "bench.h"\n#include <string.h>\n{before}\nvoid model_infer(const int8_t *input, int8_t *output)'
        )
        (tmp_path / "model.c").write_text(f"{code}\n{{\n{body}\n}}\n")
        subprocess.run(firmware.command, cwd=tmp_path, check=True)
        return replace(firmware, folder=tmp_path)

    return make


def test_runs_are_repeatable_to_the_instruction(built):
    first, second = run(built("mlp"), ROWS), run(built("mlp"), ROWS)
    np.testing.assert_array_equal(first.outputs, second.outputs)
    assert (first.instructions, first.stack_bytes) == (second.instructions, second.stack_bytes)
    assert first.instructions <= first.most_instructions


def test_instructions_are_those_that_qemu_executes(built, tmp_path):
    """QEMU logs every instruction it executes in the model's own code; the bench's timer must count as many."""
    firmware = built("mlp")
    symbols = subprocess.run(["arm-none-eabi-nm", firmware.elf], capture_output=True, text=True, check=True).stdout
    assert "memcpy" not in disassembled(firmware.elf, "model_infer")
    listing = subprocess.run(["arm-none-eabi-objdump", "-h", firmware.elf], capture_output=True, text=True, check=True)
    size, start = re.search(r"\.code\s+(\w+)\s+(\w+)", listing.stdout).groups()
    assert "T model_infer" in symbols
    (tmp_path / "records.bin").write_bytes(struct.pack("<4I", 1, 0, 0, 0) + ROWS[:1].tobytes())
    (tmp_path / "firmware.elf").write_bytes(firmware.elf.read_bytes())
    core = CORES["cortex-m4"]
    log = ("-singlestep", "-d", "exec,nochain", "-dfilter", f"0x{start}+0x{size}", "-D", "executed.log")
    subprocess.run([*command(core.machine, core.records), *log], cwd=tmp_path, check=True, timeout=120)
    executed = (tmp_path / "executed.log").read_text().count("Trace ")
    assert executed == pytest.approx(run(firmware, ROWS[:1]).instructions, abs=40 + 10)  # 10: to call and to read time


def disassembled(elf, function):
    done = subprocess.run(["arm-none-eabi-objdump", f"--disassemble={function}", elf], capture_output=True, text=True)
    return done.stdout


def test_more_work_takes_more_instructions(patched):
    body = "for (volatile int i = 0; i < 1000; i++) { }\n    memcpy(output, input, 4);"
    once = run(patched(body), ROWS).instructions
    assert 4_000 <= once <= 8_000  # load, compare, add, store, branch


def test_the_stack_is_seen_to_its_deepest(patched):
    deep = "static __attribute__((noinline)) void deep(void) { volatile char much[5000]; much[0] = 1; (void)much[0]; }"
    done = run(patched("if (input[0] == 0) deep();\n    memcpy(output, input, 4);", deep), ROWS)
    assert 5000 <= done.stack_bytes <= 5100  # only the fourth record goes there


def test_many_records_take_several_starts(built, monkeypatch):
    together = run(built("mlp"), ROWS)
    monkeypatch.setattr(running, "RECORDS_SPACE", 16 + 2 * 20)
    apart = run(built("mlp"), ROWS)
    np.testing.assert_array_equal(apart.outputs, together.outputs)
    assert apart.instructions == pytest.approx(together.instructions, abs=40)


def test_a_fault_on_the_board_is_told_with_the_record(patched):
    firmware = patched("if (input[0] == 0) __builtin_trap();\n    memset(output, 1, 4);")
    with pytest.raises(FirmwareError, match="the firmware faulted after 3 of 6 records"):
        run(firmware, ROWS)


def test_a_board_that_hangs_is_stopped(patched):
    with pytest.raises(FirmwareError, match="qemu-system-arm was not done within 1 seconds"):
        run(patched("for (;;) { *(volatile int8_t *)output = *input; }"), ROWS, seconds=1)


def test_records_of_another_size_are_refused(built):
    with pytest.raises(ValueError, match="6 records of 19 bytes; firmware takes 20 each"):
        run(built("mlp"), ROWS[:, 1:])
    with pytest.raises(ValueError, match="0 records"):
        run(built("mlp"), ROWS[:0])


def test_the_board_has_no_way_to_the_host():
    assert not any("semihosting" in part for part in command("mps2-an386", 0x21000000))


def test_the_toolchain_is_tried_for_real(toolchain):
    fault, found = tried()
    assert fault is None
    assert "arm-none-eabi-gcc" in found
    assert "QEMU" in found


def test_a_compiler_that_does_not_compile_is_a_finding(toolchain, tmp_path, monkeypatch):
    broken = tmp_path / "arm-none-eabi-gcc"
    broken.write_text("#!/bin/sh\necho 'cc1: error: no licence' >&2\nexit 4\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fault, _ = tried()
    assert fault == "arm-none-eabi-gcc failed (4): cc1: error: no licence"
