"""For the whole suite: torch on one thread, and what a test does when a tool it needs is not installed."""

from __future__ import annotations

import os

import pytest
import tenseal  # noqa: F401  # before TensorFlow: where TensorFlow comes first, TenSEAL crashes the process
import torch
from flwr.supercore.task_identity import TaskIdentity

torch.set_num_threads(1)  # small matrices go slower on several threads, and much slower on a busy machine


@pytest.fixture(scope="session")
def tools_required():
    """Whether a missing tool is a failure, as it is in CI, and not a skipped test."""
    return os.environ.get("SEEPAGE_REQUIRE_TOOLS") == "1"


@pytest.fixture(scope="session")
def lacking(tools_required):
    """Call it where a tool is missing, with one line that says how to get it: the test is skipped, or fails."""
    return _failing if tools_required else pytest.skip


@pytest.fixture(scope="session")
def task_identity():
    """Flower's messages carry the identity of a task, which its own launchers set; needed to make one in a test."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def _failing(what):
    pytest.fail(what, pytrace=False)
