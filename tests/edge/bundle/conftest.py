"""One export with everything filled in, and one about which nothing is known."""

import pytest

from edge.bundle import (
    Agreement,
    Attack,
    Board,
    Budget,
    Calibration,
    Control,
    Cost,
    Data,
    Facts,
    Training,
    Tried,
)
from edge.cost import count, energy, latency
from edge.devices import DEVICES, fits


@pytest.fixture
def model(exported) -> bytes:
    return exported("depthwise")


@pytest.fixture
def bare() -> Facts:
    return Facts(name="found", variant="int8", runtimes=("tflm",))


@pytest.fixture
def full(model) -> Facts:
    work, device = count(model), DEVICES["stm32l4r5"]
    time = latency(work, device)
    return Facts(
        name="personal-0003",
        variant="int8",
        runtimes=("tflm", "litert"),
        tried=(
            Tried(runtime="tflm", records=100, differing=0),
            Tried(runtime="litert", records=100, differing=3),
            Tried(runtime="device-arithmetic", records=100, differing=None, why="it knows no such operator"),
        ),
        training=Training(
            scenario="watch",
            scenario_hash="65949421",
            seed=7,
            target="personal, client 3",
            versions={"seepage": "0.1.0"},
        ),
        data=Data(
            title="Wrist sensors",
            source="simulated",
            licence="CC0",
            synthetic=True,
            classes=("still", "walking", "running", "stairs"),
            channels=("acceleration along x in g",),
            hertz=50,
        ),
        calibration=Calibration(
            source="members",
            records=200,
            description="the training records",
            rounded_ranges=2.0,
            silent_layers=("relu at '1' (ReLU)",),
        ),
        agreement=Agreement(records=1000, top1=0.991, largest_error=0.31, mean_error=0.02),
        arena_bytes=5000,
        macs=work.total_macs,
        board=Board.of(fits(device, len(model), 5000)),
        latency=Cost.of(time),
        energy=Cost.of(energy(time, device)),
        budgets=(
            Budget(unit="record", vantage="device", epsilon=3.2, delta=1e-5, adjacency="one record more or less"),
            Budget(unit="client", vantage="server", epsilon="inf", delta=None, adjacency=None, why="no noise is added"),
        ),
        audit=(
            Attack(
                vantage="device",
                attack="lira",
                target="the personal int8 models",
                auc=0.71,
                auc_ci=(0.68, 0.74),
                tpr=0.12,
                tpr_ci=(0.1, 0.15),
                fpr=0.01,
                members=800,
                nonmembers=900,
            ),
            Attack(
                vantage="query",
                attack="gap",
                target="the personal int8 models",
                auc=0.6,
                auc_ci=(0.57, 0.63),
                members=80,
                nonmembers=90,
            ),
        ),
        controls=(Control(name="blind", auc=0.5, auc_ci=(0.46, 0.54)),),
    )
