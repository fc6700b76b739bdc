"""Whether a model fits a board, by sums done by hand."""

import pytest

from edge.devices import DEVICES, Fit, fits

NANO = DEVICES["nano-33-ble-sense"]  # 1048576 bytes of flash, 208 * 1024 = 212992 bytes of usable RAM


def test_flash_is_the_model_and_112_kilobytes_of_runtime():
    assert fits(NANO, 933888, 10_000) == Fit(True, 1048576, 14096, ())  # 112 * 1024 = 114688
    assert fits(NANO, 933889, 10_000) == Fit(False, 1048577, 14096, ("flash",))


def test_ram_is_the_arena_and_4_kilobytes_of_stack():
    assert fits(NANO, 20_000, 208896) == Fit(True, 134688, 212992, ())
    assert fits(NANO, 20_000, 208897) == Fit(False, 134688, 212993, ("sram",))


def test_nothing_fits_a_board_with_less_flash_than_the_runtime():
    assert fits(DEVICES["stm32f103"], 1, 1).exceeded == ("flash",)
    assert fits(DEVICES["stm32f103"], 1, 20_000).exceeded == ("flash", "sram")


@pytest.mark.parametrize("name", DEVICES)
def test_every_board_is_consistent(name):
    board = DEVICES[name]
    assert board.name == name
    assert 0 < board.usable_sram_bytes <= board.sram_bytes
    assert board.source
    assert board.clock_mhz > 0
