"""Linux 5.13 and later: from now on this process opens no file, no TCP connection, and signals nobody outside it.

https://docs.kernel.org/userspace-api/landlock.html; needs no privileges.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

_CREATE, _RESTRICT = 444, 446  # system calls, the same on every machine
_ASK_VERSION: Final = 1
# By version: how many rights on files there are, on the network, and how many scopes.
_RIGHTS: Final = {1: (13, 0, 0), 2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}


def close() -> str | None:
    """Give up every right that this kernel's Landlock knows; returns what was given up, or None without Landlock.

    The caller must have set `no_new_privs`.
    """
    if platform.system() != "Linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return None
    files, network, scopes = _RIGHTS[min(version, max(_RIGHTS))]
    attributes = struct.pack("QQQ", *((1 << count) - 1 for count in (files, network, scopes)))
    size = 8 * (1 + (network > 0) + (scopes > 0))
    rules = libc.syscall(_CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    if rules < 0:
        return None
    done = libc.syscall(_RESTRICT, rules, 0)
    os.close(rules)
    held = ["no files", *(["no TCP"] if network else []), *(["no signals to others"] if scopes else [])]
    return f"Landlock {version}: {', '.join(held)}" if done == 0 else None
