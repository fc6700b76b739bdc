"""Pictures in the report, and the words for what attackers got beyond membership."""

import io
import zlib

import numpy as np
import pytest
from rich.console import Console

from sim.report import beyond, page
from sim.report.pictures import drawn, picture, png
from sim.results import CountResult, LabelResult, PropertyResult, ReconstructionResult, SourceResult, Spread, Triple
from sim.table import render

from .conftest import make_run, with_findings


def decoded(content):
    """The rows of an 8-bit PNG whose filters are all 0."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR"
    width, height = int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    start = content.index(b"IDAT") + 4
    length = int.from_bytes(content[start - 8 : start - 4])
    assert zlib.crc32(content[start - 4 : start + length]) == int.from_bytes(content[start + length :][:4])
    rows = np.frombuffer(zlib.decompress(content[start : start + length]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, -1), content[25]


def a_triple(shape, *, exact):
    shown = picture(np.linspace(0, 1, int(np.prod(shape))).reshape(shape), 0, 1)
    return Triple(true=shown, recovered=shown, public=shown, psnr=150.2, public_psnr=14.4, exact=exact)


def row(attack, recovered, exact, shape=(1, 12, 12), client=3):
    both = Spread(median=150.2, low=20, high=152.4), Spread(median=14.4, low=11, high=19)
    return ReconstructionResult(
        attack=attack,
        vantage="server" if client is not None else "aggregator",
        unit="record",
        client=client,
        round=1,
        records=2,
        steps=1,
        sought=2,
        recovered=recovered,
        exact=exact,
        psnr=both[0],
        ssim=None,
        public_psnr=both[1],
        public_ssim=None,
        cpu_seconds=1.2,
        pictures=[a_triple(shape, exact=exact > 0)] * 2,
    )


def source(ci, held_ci):
    middle, held = sum(ci) / 2, sum(held_ci) / 2
    return SourceResult(
        attack="source-inference", vantage="server", clients=10, records=100, right=int(100 * middle), accuracy=middle,
        ci=ci, chance=0.1, largest=0.12, held_out_accuracy=held, held_out_ci=held_ci, cpu_seconds=1,
    )  # fmt: skip


def prop(auc, ci):
    return PropertyResult(
        attack="property-inference", vantage="server", property="is a device of the kind 'left wrist'", round=2,
        clients=16, holding=8, auc=auc, auc_ci=ci, simulated_auc=0.9, simulated=200, cpu_seconds=3,
    )  # fmt: skip


def said(**parts):
    return list(beyond.sentences(make_run().results.model_copy(update=parts)))


def test_a_png_holds_the_pixels():
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    pixels, kind = decoded(png(grey))
    np.testing.assert_array_equal(pixels[..., 0], grey[0])
    assert kind == 0
    colours = np.arange(36, dtype=np.uint8).reshape(3, 3, 4)
    pixels, kind = decoded(png(colours))
    np.testing.assert_array_equal(np.moveaxis(pixels, -1, 0), colours)
    assert kind == 2


def test_values_outside_the_range_are_cut():
    shown = picture(np.array([[[-1.0, 0.0], [0.5, 7.0]]]), 0, 1)
    assert shown.shape == (1, 2, 2)
    assert shown.values == "AACA/w=="  # 0, 0, 128, 255


def test_signals_are_lines_and_words_are_only_words():
    html = drawn(picture(np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]]), 0, 1), '<b>"x"')
    assert html.count("<polyline") == 2 and 'points="0.0,110.0 100.0,0.0' in html
    assert "<b>" not in html and 'role="img"' in html
    image = drawn(picture(np.zeros((1, 3, 4)), 0, 1), "a <shoe>")
    assert 'src="data:image/png;base64,' in image and 'alt="a &lt;shoe&gt;"' in image
    assert 'width="4" height="3"' in image


@pytest.mark.parametrize("shape", [(1, 12, 12), (6, 20)], ids=["images", "signals"])
def test_page_and_terminal_show_it(shape):
    rows = [row("linear-recovery", 2, 1, shape), row("dlg", 0, 0, shape)]
    results = with_findings(make_run().results.model_copy(update={"reconstructions": rows}))
    html = page.page(results, make_run().scores)
    assert "Records came back: 1 of those" in html and 'id="beyond"' in html and 'href="#beyond"' in html
    assert "pass this report on as you would the data" in html
    assert html.count('<ul class="triples">') == 2 and html.count("<details open>") == 1
    assert "true record 2, linear-recovery, client 3: 2 records, 1 local step, round 1" in html
    shown = Console(file=io.StringIO(), width=100)
    render(results, shown)
    assert "More than membership" in shown.file.getvalue() and "2 of 2 records, 1 exactly" in shown.file.getvalue()


def test_without_it_the_page_says_nothing_of_it():
    html = page.page(make_run().results, make_run().scores)
    assert "More than membership" not in html and "<img" not in html


def test_sentences_follow_the_figures():
    found, lost = said(reconstructions=[row("linear-recovery", 2, 1), row("dlg", 0, 0)])
    assert found.startswith("Updates are data: linear-recovery got 2 of the 2 records behind one client's update back")
    assert "1 of them exactly (PSNR 20 to 152 dB, of the nearest public records 11 to 19 dB)" in found
    assert lost.startswith("dlg got nothing back of the 2 records behind one client's update")
    (summed,) = said(reconstructions=[row("linear-recovery", 1, 0, client=None)])
    assert "1 of the 2 records behind the sum of one round's updates back closer than anything public (PSNR" in summed
    labels = LabelResult(attack="label-recovery", vantage="server", client=1, round=1, records=9, right=8, guessed=3)
    assert said(labels=[labels])[0].startswith("The last layer's bias gives away 8 of 9 labels behind one client's")


def test_whose_a_record_is_is_held_against_records_never_trained_on():
    assert said(sources=[source((0.4, 0.6), (0.1, 0.2))])[0].endswith("tell more than the clients' habits do.")
    assert said(sources=[source((0.4, 0.6), (0.3, 0.5))])[0].endswith("gives it away is not shown.")


def test_counts_are_exact_or_a_least():
    row = CountResult(
        attack="members-counted", vantage="server", clients=6, complete=5, right=4, at_least=1, largest_error=1,
        cpu_seconds=1,
    )  # fmt: skip
    assert "that number for 4 of the 5 clients of 6 whose updates" in said(counts=[row])[0]
    least = row.model_copy(update={"complete": 0, "right": 0, "at_least": 6, "largest_error": None})
    assert "finds a least number for each of 6 clients, and holds for 6 of them" in said(counts=[least])[0]


def test_a_property_is_told_not_told_or_not_measurable():
    assert (
        "tells it from the updates of round 2, with AUC 0.80 [0.60, 0.90]"
        in said(properties=[prop(0.8, (0.6, 0.9))])[0]
    )
    assert "is not shown to tell it" in said(properties=[prop(0.6, (0.4, 0.8))])[0]
    assert "not measurable here: 8 of 16 clients do" in said(properties=[prop(None, None)])[0]
