"""The page on bringing one's own data: its example is made, read and run up to the first training step."""

import re
from pathlib import Path

import numpy as np

from sim.data.federation import noted
from sim.given import federation_of
from sim.preflight import preflight
from sim.scenario import load_scenario

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_example_is_read_as_the_page_says(tmp_path, monkeypatch):
    code, toml = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("python", "toml"))
    with monkeypatch.context() as inside:
        inside.chdir(tmp_path)
        exec(code, {})  # the page's own example
    (tmp_path / "mine.toml").write_text(toml)
    monkeypatch.chdir("/")
    scenario = load_scenario(tmp_path / "mine.toml")
    preflight(scenario)
    federation = federation_of(scenario)
    assert federation.classes == ("run", "sit", "walk") and federation.shape == (6, 50) and not noted(federation)
    assert len(federation.people) == 4 and len(federation.clients) == 8 and federation.population.people == 2
    with np.load(tmp_path / "mine.npz") as saved:
        for client in federation.clients:
            assert [federation.classes[label] for label in client.y] == saved["y"][client.row].tolist()
            assert set(saved["person"][client.row]) == {client.person}
