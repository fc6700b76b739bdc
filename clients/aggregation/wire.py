"""What travels in our secure aggregation: five Flower message types, and mappings by client number in their records."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.aggregation.masks import KEY_BYTES, SEALING_BYTES, SIGNATURE_BYTES
from clients.aggregation.shamir import PRIME, SHARE_BYTES

RECORD = "secagg"  # the protocol's own record, in messages and in a client's state
MASKED = "masked"  # the record of arrays with a client's masked vector
VECTOR = "vector"  # its only array
ROUND = "server-round"

_ACTIONS = "secagg_keys", "secagg_shares", "secagg_consistency", "secagg_unmask"
ADVERTISE_TYPE, SHARE_TYPE, CONSISTENCY_TYPE, UNMASK_TYPE = (f"query.{action}" for action in _ACTIONS)
TRAIN_TYPE = "train"

# Names of mappings, and the bytes of one value.
KEYS, KEYS_BYTES = "keys", 2 * KEY_BYTES + SIGNATURE_BYTES  # public keys for masks and for shares, signature
SEALED, SEALED_BYTES = "sealed", 2 * SHARE_BYTES + SEALING_BYTES  # a share of the seed and one of the mask key
SEED, KEY = "seed", "key"  # shares in the open, of a survivor's seed or of a dropped client's mask key
TAG = "seed-tag"  # lets the server notice that a wrong seed came out of the shares
SIGNATURE, SIGNATURES, SHARERS = "signature", "signatures", "sharers"  # one's own; those of others, by client
ROSTER, SHARING, SURVIVORS = "roster", "sharing", "survivors"  # who takes part; whose shares, and whose vectors came

# By name: a value, or a mapping from client number to bytes, which becomes an entry `name/number` for each client.
Entries = Mapping[str, Mapping[int, bytes] | bytes | int | str | list[int]]


class ProtocolError(ValueError):
    """A message that breaks the protocol. The other side reads this text: it holds public things only."""


def register(app: ClientApp) -> None:
    """Give a ClientApp the protocol's message types: Flower calls mods only around functions that are registered."""
    for action in _ACTIONS:
        app.query(action)(_without_mod)


def _without_mod(message: Message, context: Context) -> Message:  # noqa: ARG001  # what Flower calls
    raise ProtocolError("this client has no SecAggMod among its mods: it takes no part in secure aggregation")


def content(entries: Entries) -> RecordDict:
    """A message's content."""
    return RecordDict({RECORD: record(entries)})


def record(entries: Entries) -> ConfigRecord:
    """The protocol's record. Empty lists are left out: Flower allows them, but fails when it measures a message."""
    made = ConfigRecord()
    for name, value in entries.items():
        if isinstance(value, Mapping):
            made.update({f"{name}/{client}": entry for client, entry in value.items()})
        elif value != []:
            made[name] = value
    return made


def read_mapping(found: ConfigRecord, name: str, size: int) -> dict[int, bytes]:
    """A mapping from client number to `size` bytes. Raises ProtocolError on anything else."""
    entries = {key.removeprefix(f"{name}/"): value for key, value in found.items() if key.startswith(f"{name}/")}
    for client, value in entries.items():
        if not (client.isdecimal() and isinstance(value, bytes) and len(value) == size):
            raise ProtocolError(f"the entry {name}/{client} is not {size} bytes under a client number")
    return {int(client): value for client, value in entries.items() if isinstance(value, bytes)}


def read_bytes(found: ConfigRecord, name: str, size: int) -> bytes:
    """An entry of `size` bytes. Raises ProtocolError on anything else."""
    value = found.get(name)
    if not isinstance(value, bytes) or len(value) != size:
        raise ProtocolError(f"the entry {name} is not {size} bytes")
    return value


def read_integer(found: ConfigRecord, name: str) -> int:
    """An integer entry. Raises ProtocolError on anything else."""
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"the entry {name} is not an integer")
    return value


def read_clients(found: ConfigRecord, name: str) -> list[int]:
    """A list of client numbers; a list that is not there is empty. Raises ProtocolError on anything else."""
    value = found.get(name, [])
    if not isinstance(value, list) or not all(type(entry) is int for entry in value):
        raise ProtocolError(f"the entry {name} is not a list of client numbers")
    return [entry for entry in value if isinstance(entry, int)]


def share_to_bytes(share: int) -> bytes:
    """A Shamir share, big-endian."""
    return share.to_bytes(SHARE_BYTES, "big")


def read_share(value: bytes) -> int:
    """A Shamir share. Raises ProtocolError if it is outside the field."""
    if (share := int.from_bytes(value, "big")) >= PRIME:
        raise ProtocolError("a share is not in the field")
    return share
