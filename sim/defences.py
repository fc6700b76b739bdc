"""The protections that a scenario can switch on, and against whom each holds."""

from __future__ import annotations

from dataclasses import dataclass

from server.robust import RULES


@dataclass(frozen=True, slots=True)
class Defence:
    """One protection that a scenario can switch on."""

    setting: str
    title: str
    against: str
    source: str


DEFENCES = (
    Defence(
        "privacy.record",
        "DP-SGD on every client: record level",
        "everybody, also the holder of the personal model; not where clients' own records set its int8 ranges",
        "Abadi et al. 2016, arXiv 1607.00133",
    ),
    Defence(
        'privacy.client.where = "central"',
        "noise of the server's on the sum of clipped updates: client level",
        "other clients and users of the global model; not the server, and under ckks not other clients",
        "McMahan et al. 2018, arXiv 1710.06963; adaptive clipping: Andrew et al. 2021, arXiv 1905.03871",
    ),
    Defence(
        'privacy.client.where = "local"',
        "each client's noise on its own clipped update: client level",
        "everybody but the holder of the personal model",
        "Duchi et al. 2013, arXiv 1302.3203; Gaussian noise, accounted by its loss distribution",
    ),
    Defence(
        'privacy.client.where = "distributed"',
        "the clients' noise inside a secure sum: client level",
        "everybody but the holder of the personal model and a server that deviates; another client knows its own share",
        "Agarwal et al. 2021, arXiv 2110.04995 (Skellam)",
    ),
    Defence(
        'aggregation.protocol = "secagg"',
        "masks that cancel in the sum",
        "a malicious server with `colluding` clients on its side: it sees who took part, and one sum a round over "
        "three honest clients or more that trained on the same weights. Rests on identity keys that clients have of "
        "each other by another way than the server. Not prevented: spoilt rounds, and what sums, and their differences "
        "between rounds, give away",
        "Bonawitz et al. 2017; Bell et al. 2020, ia.cr/2020/704",
    ),
    Defence(
        'aggregation.protocol = "secagg-plus-flower"',
        "Flower's SecAgg+, as a baseline",
        "nobody who tries: 28-bit masks, unsigned keys, one client's help is enough; weights and metrics are in clear",
        "flwr 1.41",
    ),
    Defence(
        'aggregation.protocol = "ckks"',
        "homomorphic encryption of the updates, the key with the clients",
        "a server that follows the protocol and has no client on its side: every client holds the key, with which it "
        "can read every other's update, and sums before central noise; a malicious server can have one update opened",
        "Cheon et al. 2017, ia.cr/2016/421 (TenSEAL)",
    ),
    *(
        Defence(
            f'federation.combine = "{rule}"',
            entry.title,
            f"one tampering client of {entry.fewest(1)} or more, two of {entry.fewest(2)} or more; it hides nothing",
            entry.source,
        )
        for rule, entry in RULES.items()
    ),
)
