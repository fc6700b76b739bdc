"""Whether a model fits a board, by sums done by hand."""

from dataclasses import replace

import pytest

from edge.devices import DEVICES, Need, fits, fits_all, runtime_code
from edge.devices.profile import FIGURES

NANO = DEVICES["nano-33-ble-sense"]  # 1048576 bytes of flash, 208 * 1024 = 212992 bytes of usable RAM
NAMED = {
    "nano-33-ble-sense": ("cortex-m4", 1024, 208, 64),
    "pico-rp2040": ("cortex-m0plus", 2048, 232, 133),
    "pico-2-rp2350": ("cortex-m33", 4096, 488, 150),
    "esp32": ("xtensa-lx6", 4096, 320, 240),
    "esp32-s3": ("xtensa-lx7", 8192, 362, 240),
    "esp32-c3": ("riscv32", 4096, 250, 160),
    "stm32f103": ("cortex-m3", 64, 16, 72),
    "stm32f407": ("cortex-m4", 1024, 176, 168),
    "stm32f411": ("cortex-m4", 512, 112, 100),
    "stm32f746": ("cortex-m7", 1024, 288, 216),
    "stm32h743": ("cortex-m7", 2048, 960, 480),
    "stm32l4r5": ("cortex-m4", 2048, 640, 120),
    "corstone-300": ("cortex-m55", 8192, 2048, 500),
}


def test_flash_is_the_model_and_112_kilobytes_of_runtime():
    fit = fits(NANO, 933888, 10_000)
    assert (fit.fits, fit.flash, fit.exceeded) == (True, Need(1048576, 1048576), ())  # 112 * 1024 = 114688
    fit = fits(NANO, 933889, 10_000)
    assert (fit.fits, fit.flash.margin, fit.exceeded) == (False, -1, ("flash",))
    assert "flash: 1,048,577 of 1,048,576 bytes, 1 too many" in fit.words


def test_ram_is_the_arena_and_4_kilobytes_of_stack():
    fit = fits(NANO, 20_000, 208896)
    assert (fit.fits, fit.ram, fit.ram.margin) == (True, Need(212992, 212992), 0)
    fit = fits(NANO, 20_000, 208897)
    assert (fit.ram.margin, fit.exceeded) == (-1, ("sram",))


def test_nothing_fits_a_board_with_less_flash_than_the_runtime():
    board = DEVICES["stm32f103"]
    assert fits(board, 1, 1).exceeded == ("flash",)
    assert fits(board, 1, 20_000).exceeded == ("flash", "sram")
    assert fits(board, 40_000, 10_000, kernels="ahead-of-time").fits  # 40000 + 15360 of 65536


def test_the_runtime_s_code_depends_on_kernels_and_on_how_many_kinds_of_operators():
    assert runtime_code(NANO, "reference") == 69 * 1024
    assert runtime_code(NANO, operators=3) == runtime_code(NANO, operators=10) == 112 * 1024
    assert runtime_code(NANO, operators=15) == 172032  # half as much again: 168 * 1024
    assert runtime_code(DEVICES["esp32-c3"]) == 114579
    assert runtime_code(NANO, "ahead-of-time", operators=15) == 15 * 1024


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stm32l4r5", "runtime code as measured on this architecture"),
        ("pico-rp2040", "carried over from cortex-m4: none was measured on cortex-m0plus"),
        ("esp32-s3", "runtime code as measured on this architecture (TFLite Micro with ESP-NN kernels)"),
        ("esp32-s3", "8,388,608 bytes of PSRAM are not counted"),
        ("pico-2-rp2350", "flash is a chip beside the processor, read in place"),
        ("esp32", "carried over from xtensa-lx7: none was measured on xtensa-lx6"),
        ("esp32-c3", "upper bound was measured on Cortex-M alone"),
    ],
)
def test_words_say_what_the_sums_rest_on(name, said):
    assert said in fits(DEVICES[name], 30_000, 20_000).words


def test_an_arena_lies_in_one_piece():
    board = DEVICES["stm32f407"]  # 128 KB and 64 KB that are not in one piece
    assert fits(board, 30_000, 131_072).fits
    split = fits(board, 30_000, 131_073)
    assert split.exceeded == ("sram",)
    assert split.ram.margin > 0
    assert "the largest has 131,072 bytes" in split.words


def test_a_table_has_every_board_and_an_npu_its_own_sizes():
    table = fits_all(300_000, 100_000, compiled=(200_000, 50_000))
    assert list(table) == list(DEVICES)
    assert table["nano-33-ble-sense"].ram.needed == 104_096
    assert table["corstone-300"].flash.needed == 314_688
    assert table["corstone-300"].ram.needed == 54_096
    assert "as vela compiled it for ethos-u55-128, whose driver is not counted" in table["corstone-300"].words
    assert fits_all(300_000, 100_000)["corstone-300"].ram.needed == 104_096


@pytest.mark.parametrize("name", DEVICES)
def test_every_board_is_consistent_and_names_its_sources(name):
    board = DEVICES[name]
    assert board.name == name
    assert 0 < board.usable_sram_bytes <= board.sram_bytes
    assert 0 < board.largest_block_bytes <= board.sram_bytes
    assert set(board.sources) == set(FIGURES)
    assert all(board.sources.values())
    assert board.clock_mhz > 0
    assert (board.power is None) == bool(board.no_power)
    if board.power:
        assert 0 < board.power.low <= board.power.high
        assert board.power.source
    assert hash(board) == hash(replace(board))


def test_the_named_boards_have_these_figures():
    figures = {
        name: (d.architecture, d.flash_bytes // 1024, d.usable_sram_bytes // 1024, d.clock_mhz)
        for name, d in DEVICES.items()
    }
    assert NAMED.items() <= figures.items()


def test_power_is_current_times_voltage():
    power = DEVICES["stm32f103"].power  # 27 to 36 mA at 3.3 V
    assert (power.low, power.high) == (pytest.approx(89.1), pytest.approx(118.8))


def test_figures_of_one_source_are_named_together():
    assert NANO.source == (
        "flash, sram, clock: Arduino data sheet; mcufit. usable sram: mcufit: 48 KB for the Bluetooth stack"
    )
