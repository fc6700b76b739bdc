"""The model card says in words what the manifest says, and what nobody knows."""

import pytest

from edge.bundle import Cost, write_bundle


@pytest.fixture
def read(model, tmp_path):
    def card(facts) -> str:
        write_bundle(tmp_path / "card", model, facts)
        return (tmp_path / "card" / "README.md").read_text()

    return card


def test_everything_that_is_known_is_said(read, full, model):
    card = read(full)
    for said in (
        "# personal-0003: model card",
        f"A TensorFlow Lite model of {len(model):,} bytes, quantised as int8",
        "Takes 1x16x16x1 int8 numbers, real = ",
        "CONV_2D x2, DEPTHWISE_CONV_2D x1, FULLY_CONNECTED x1, MEAN x1, PAD x2",
        "7,872 multiply-accumulates",
        "gives the label of the float model that it was made from for 99.1%",
        "no output is further off than 0.31, and the mean difference is 0.02.",
        "A record's numbers: 0 acceleration along x in g.",
        "16 rows of 16 columns, 50 samples a second (0.32 s), each with its 1 channel side by side.",
        "The outputs, in their order: 0 still, 1 walking, 2 running, 3 stairs.",
        "relu at '1' (ReLU) gave nothing but zeros on the calibration records",
        "tflm (TFLite Micro, the reference) ran it on 100 records.",
        "litert ran it on 100 records: 3 of 100 answers are not TFLite Micro's, bit for bit.",
        "device-arithmetic does not run it: it knows no such operator.",
        "5,000 bytes, measured in TFLite Micro on the host; an upper bound for Cortex-M.",
        "STM32L4R5 Nucleo, MLPerf Tiny's reference board: fits. flash: ",
        "ms. Rests on: cycles per multiply-accumulate of microTVM with CMSIS-NN on STM32L4R5",
        "uJ. Rests on: 40 to 52.3 mW",
        "scenario watch (65949421), seed 7, model: personal, client 3. seepage 0.1.0.",
        "Training data: Wrist sensors (simulated; synthetic; licence: CC0).",
        "set by 200 records (members): the training records.",
        "moved outward to powers of 2.",
        "To one record, against device: epsilon 3.2 at delta 1e-05, between data sets that differ by one record",
        "To one client, against server: no promise. No noise is added.",
        "Strongest attack from device: lira on the personal int8 models, AUC 0.710 (95 % interval 0.680 to 0.740) over "
        "800 members and 900 non-members; finds 12.0% of the members (95 % interval 10.0% to 15.0%) at a "
        "false-positive rate of 1.0%.",
        "90 non-members; too few to measure the share found at a low false-positive rate.",
        "Control, blind: AUC 0.500 (95 % interval 0.460 to 0.540); it should not lie above 0.5.",
        "Nothing that this card asks for.",
    ):
        assert said in card, said


def test_of_a_file_found_somewhere_the_card_says_what_is_not_known(read, bare):
    card = read(bare)
    assert card.count("- It is not known ") == 10
    assert card.count("- Nothing is recorded.") == 2
    assert "None" not in card
    assert "null" not in card


def test_a_cost_without_figures_gives_its_reason_twice(read, full):
    unknown = Cost(interval=None, unit="ms", anchor="no published time was found")
    card = read(full.model_copy(update={"latency": unknown}))
    assert "Latency of one inference: not known, because no published time was found." in card
    assert "It is not known how long an inference takes: no published time was found." in card


def test_negative_zero_points_read_as_sums(read, full, model):
    from edge.artifact import Artifact

    output = Artifact.from_bytes(model).output
    sign = "+" if output.zero_point < 0 else "-"
    assert f"real = {output.scale!r} * (number {sign} {abs(output.zero_point)}), logits" in read(full)


def test_no_promise_and_no_knowledge_of_one_are_told_apart(read, full):
    assert "Differential privacy promises nothing here." in read(full.model_copy(update={"budgets": ()}))
    unknown = read(full.model_copy(update={"budgets": None}))
    assert "promises nothing" not in unknown
    assert "It is not known whether differential privacy protects anybody" in unknown
