"""The demonstration in whole federations: Flower's masks fall to one colluder, ours stand, and what lacks is said."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich import console

from attacks.mask_recovery import fold, strip
from clients.aggregation.fixed_point import plan_fixed_point
from sim import recovery
from sim.collusion import Kept, Notebook, colluders
from sim.engines import ENGINES
from sim.federate import federate
from sim.folder import RunFolder, create
from sim.given import federation_of
from sim.protect import _flower_shares
from sim.recovery import recover_updates, true_update
from sim.report import page, recovered
from sim.results import RecoveryResult
from sim.run import attack
from sim.scenario import load_scenario
from sim.table import render
from tests.sim.report.conftest import make_run

CLIENTS = 4
MIDDLE, UPPER = 2**24, 2**32  # of the window in which our words are looked for; what is cut off below them


def masked(tiny_file, parent, quiet, protocol, *settings, everybody_tells=False):
    """A federation under masks: its scenario and its folder."""
    named = f"aggregation.protocol={protocol}", "federation.rounds=2", "attacks.names=['loss', 'mask-recovery']"
    scenario = load_scenario(tiny_file, [*named, *settings])
    folder = create(scenario, parent)
    with pytest.MonkeyPatch.context() as patch:
        if everybody_tells:
            patch.setattr("sim.collusion.colluders", lambda _: range(CLIENTS))
        federate(scenario, ENGINES["inprocess"], folder, quiet)
    return scenario, folder


def masked_and_known(tiny_file, parent, quiet, protocol):
    """With two neighbours each and one colluder, and every client's keys, so that a test knows the right seed."""
    settings = "aggregation.neighbours=2", "aggregation.colluding=1"
    scenario, folder = masked(tiny_file, parent, quiet, protocol, *settings, everybody_tells=True)
    keys = Notebook(folder.transcript).told()
    for honest in set(keys) - set(colluders(scenario)):
        (folder.transcript / f"told-{honest:04d}.json").unlink()
    return scenario, folder, keys


@pytest.fixture(scope="module")
def results():
    return make_run().results


@pytest.fixture(scope="module")
def flower(tiny_file, tmp_path_factory, quiet):
    return masked_and_known(tiny_file, tmp_path_factory.mktemp("flower"), quiet, "secagg-plus-flower")


@pytest.fixture(scope="module")
def ours(tiny_file, tmp_path_factory, quiet):
    return masked_and_known(tiny_file, tmp_path_factory.mktemp("ours"), quiet, "secagg")


def searched(run, quiet, search=None):
    (row,), refused = recover_updates(run[0], run[1], quiet, search)
    assert refused == [] and RecoveryResult.model_validate_json(row.model_dump_json()) == row
    return row


def reason(run, quiet):
    rows, (refusal,) = recover_updates(run[0], run[1], quiet, range(1))
    assert rows == [] and refusal.attack == "mask-recovery"
    return refusal.reason


def said(results, row):
    (sentence,) = recovered.sentences(results.model_copy(update={"recoveries": [row]}))
    return sentence


def around(key):
    """Some positions of the search, among them that of this key's seed."""
    position = sum((fold(key) >> 8 * byte & 0x7F) << 7 * byte for byte in range(4))
    return range(max(0, position - 1000), min(2**28, position + 1000))


def honest_neighbour(run, row):
    (other,) = Notebook(run[1].transcript).kept().neighbours[row.victim] - set(row.colluders)
    return other


def missing_key(run, quiet):
    """Of the mask that nobody on the server's side knows."""
    row = searched(run, quiet, range(1))
    return run[2][row.victim][Notebook(run[1].transcript).kept().nodes[honest_neighbour(run, row)]]


def test_one_colluder_opens_flower_s_masks(flower, quiet, results):
    _, folder, _ = flower
    assert {len(near) for near in Notebook(folder.transcript).kept().neighbours.values()} == {2}
    row = searched(flower, quiet, around(missing_key(flower, quiet)))
    assert row.recovered and row.correlation > 0.9999 and row.max_error < 1e-4
    assert (row.colluders, row.effective_bits, row.search_bits) == ([3], 28, 28)
    assert 0 < row.searched <= 2000 and row.full_search_core_minutes == pytest.approx(2**28 / row.seeds_per_second / 60)
    sentence = said(results, row)
    assert sentence.startswith("The masks of Flower's SecAgg+ do not hold: the server, with client 3 on its side, got")
    assert f"client {row.victim}'s update" in sentence and f"with the true update {row.correlation:.6f}" in sentence


def test_terminal_and_report_show_it(flower, quiet, results):
    row = searched(flower, quiet, around(missing_key(flower, quiet)))
    found = results.model_copy(update={"recoveries": [row]})
    shown = console.Console(file=io.StringIO(), width=80)
    render(found, shown)
    assert "What the masks hide" in shown.file.getvalue() and "recovered" in shown.file.getvalue()
    with_it, without = (page.page(each, make_run().scores) for each in (found, results))
    assert "The masks do not hold. The server, with client 3 on its side" in with_it and "<h3>Masks</h3>" in with_it
    assert "<h3>Masks</h3>" not in without and "do not hold" not in without


def test_both_of_a_pair_know_the_same_key(flower, ours):
    nodes = Notebook(flower[1].transcript).kept().nodes
    for keys, name in ((flower[2], nodes), (ours[2], {client: client for client in range(CLIENTS)})):
        pairs = [(a, b) for a in range(CLIENTS) for b in range(CLIENTS) if name[b] in keys[a]]
        assert len(pairs) == 2 * CLIENTS
        assert all(keys[a][name[b]] == keys[b][name[a]] for a, b in pairs)


def test_a_partial_search_says_so(flower, quiet, results):
    scenario, folder, _ = flower
    few = scenario.model_copy(update={"attacks": scenario.attacks.model_copy(update={"mask_seeds": 512})})
    row = searched((few, folder), quiet)
    assert not row.recovered and row.correlation is None and row.searched == 512
    sentence = said(results, row)
    assert "512 of 2^28 seeds, so the search is partial and settles nothing" in sentence
    assert f"All of them take about {row.full_search_core_minutes:.1f} core-minutes at the measured rate" in sentence
    whole = said(results, row.model_copy(update={"searched": 2**28}))
    assert "all 2^28 seeds." in whole and "partial" not in whole


def test_chunks_go_through_the_whole_search_and_end_at_the_seed(flower, quiet, monkeypatch):
    monkeypatch.setattr(recovery, "CHUNK", 300)
    assert searched(flower, quiet, range(700)).searched == 700
    row = searched(flower, quiet, around(missing_key(flower, quiet)))
    assert row.recovered and row.searched in (300, 600, 900, 1200)


def test_ours_withstand_the_same_search(ours, quiet, results):
    row = searched(ours, quiet, range(2**13))
    assert not row.recovered and row.correlation is None and row.full_search_core_minutes is None
    assert (row.searched, row.effective_bits, row.colluders) == (2**13, 128, [3])
    sentence = said(results, row)
    assert "withstand the search that opens Flower's SecAgg+" in sentence and "2^128 steps" in sentence
    assert "8,192 of 2^28 seeds (a partial search)" in sentence
    assert "partial" not in said(results, row.model_copy(update={"searched": 2**28}))


def test_the_search_would_know_our_update_if_it_had_the_key(ours, quiet):
    """Else its failure would say nothing. With the one key that the colluder lacks, all masks come off."""
    scenario, folder, keys = ours
    kept, row = Notebook(folder.transcript).kept(), searched(ours, quiet, range(1))
    told = {client: keys[client] for client in (*row.colluders, honest_neighbour(ours, row))}
    seen, node, masking = recovery._secagg(scenario, kept, told, row.victim)
    words, unknown = strip(seen, node, masking)
    assert unknown == [] and words.max() <= seen.levels
    members = [int(client.member.sum()) for client in federation_of(scenario).clients]
    scale = plan_fixed_point(CLIENTS, 16.0, 10_000).scale
    sent = (words.astype(np.int64) - MIDDLE) * UPPER / scale / members[row.victim]
    assert np.abs(sent - true_update(scenario, folder, row.victim)).max() < 4 * UPPER / scale / members[row.victim]
    masked_words, _ = strip(seen, node, replace(masking, stream=lambda key, length: np.zeros(length, np.uint32)))
    assert masked_words.max() > 2**31


@pytest.mark.parametrize(
    "protection",
    [
        [],
        ["privacy.client.where=local", "privacy.client.clipping_norm=0.1", "privacy.client.noise_multiplier=2.0"],
        ["privacy.record.noise_multiplier=1.0", "privacy.record.clipping_norm=1.0"],
    ],
)
def test_the_truth_is_what_the_victim_sent_under_any_protection(tiny_file, tmp_path, quiet, results, protection):
    run = masked(
        tiny_file, tmp_path, quiet, "secagg-plus-flower", "aggregation.colluding=1", *protection, everybody_tells=True
    )
    (run[1].transcript / "told-0000.json").unlink()  # more collude than the clients allow for: all but one
    row = searched(run, quiet)
    assert (row.victim, row.colluders, row.searched) == (0, [1, 2, 3], 0)
    assert row.recovered and row.correlation > 0.9999 and row.full_search_core_minutes is None
    assert "with clients 1, 2, 3 on its side" in said(results, row) and "without a search" in said(results, row)


def test_without_a_suitable_victim_it_says_what_it_would_take(tiny_file, tmp_path, quiet):
    run = masked(tiny_file, tmp_path, quiet, "secagg-plus-flower", "aggregation.colluding=1")
    told = reason(run, quiet)
    assert "client 0 comes nearest, with 2 of 3 that do not" in told
    assert "Raise aggregation.colluding by 1, or lower aggregation.neighbours" in told
    Notebook(run[1].transcript)._file.unlink()
    assert "round 1 was refused" in reason(run, quiet)
    (run[1].transcript / "told-0003.json").unlink()
    assert "needs a client in league with the server: set aggregation.colluding" in reason(run, quiet)


def test_somebody_must_be_honest():
    kept = Kept(masked={0: np.zeros(3)}, neighbours={0: frozenset({1})}, seeds={}, nodes={})
    with pytest.raises(recovery.VantageLacksError, match="all of round 1 collude"):
        recovery._victim(kept, {0: {}, 1: {}})


def test_where_nothing_is_masked_the_run_goes_on_without_it(copied, tiny, quiet):
    scenario = tiny.model_copy(update={"attacks": tiny.attacks.model_copy(update={"names": ("loss", "mask-recovery")})})
    done = attack(scenario, RunFolder(copied), quiet)
    assert {row.attack for row in done.attacks} == {"loss"} and done.recoveries == []
    assert ("mask-recovery", "server") in [(r.attack, r.vantage) for r in done.refused]
    assert any('aggregation.protocol = "none" has none' in sentence for sentence in done.findings)


def test_flower_s_number_of_shares_counts_the_client_and_is_odd_or_all():
    wanted = {(2, 4): 3, (2, 3): 3, (3, 4): 4, (3, 5): 5, (3, 6): 5, (4, 9): 5, (9, 4): 4}
    assert {case: _flower_shares(*case) for case in wanted} == wanted
