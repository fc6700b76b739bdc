"""Linux: from now on this process may compute, allocate, and use the descriptors it has, and nothing else.

A filter in classic BPF, which the kernel runs on every system call: those on the list pass, any other fails with
EPERM. No file can be opened, no socket made, no process started, no limit raised, nobody else signalled.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

# https://github.com/torvalds/linux/blob/v6.12/arch/x86/entry/syscalls/syscall_64.tbl
_X86_64: Final = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
    "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19,
    "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39,
    "exit": 60, "fcntl": 72, "ftruncate": 77, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "sigaltstack": 131,
    "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "newfstatat": 262, "dup3": 292, "getcpu": 309,
    "getrandom": 318, "memfd_create": 319, "membarrier": 324, "rseq": 334,
}  # fmt: skip
# https://github.com/torvalds/linux/blob/v6.12/include/uapi/asm-generic/unistd.h
_AARCH64: Final = {
    "read": 63, "write": 64, "close": 57, "fstat": 80, "ppoll": 73, "lseek": 62, "mmap": 222, "mprotect": 226,
    "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "ioctl": 29,
    "pread64": 67, "readv": 65, "writev": 66, "sched_yield": 124, "mremap": 216, "madvise": 233, "dup": 23,
    "nanosleep": 101, "getpid": 172, "exit": 93, "fcntl": 25, "ftruncate": 46, "gettimeofday": 169, "getrusage": 165,
    "sysinfo": 179, "sigaltstack": 132, "gettid": 178, "futex": 98, "sched_getaffinity": 123, "restart_syscall": 128,
    "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "exit_group": 94, "newfstatat": 79, "dup3": 24,
    "getcpu": 168, "getrandom": 278, "memfd_create": 279, "membarrier": 283, "rseq": 293,
}  # fmt: skip
# The machine's number for the audit, the calls that pass, and the one by which a process signals itself (abort).
_MACHINES: Final = {"x86_64": (0xC000003E, _X86_64, 234), "aarch64": (0xC00000B7, _AARCH64, 131)}

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # where they are in struct seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def close() -> str | None:
    """Install the filter; returns what it holds, or None on a system that does not take it."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return None
    audit, calls, signal = _MACHINES[platform.machine()]
    code = b"".join(struct.pack("HBBI", *step) for step in _program(audit, sorted(calls.values()), signal))
    steps = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(steps))
    prctl = ctypes.CDLL(None).prctl
    if prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.c_char_p(program)) != 0:
        return None
    return f"seccomp: {len(calls)} system calls, of which none opens a file, a socket or a process"


def _program(audit: int, calls: list[int], signal: int) -> list[Instruction]:
    """Signals go to this process alone; a call on the list passes; on another machine's ABI it is over."""
    listed = [(_EQUAL, len(calls) - i, 0, number) for i, number in enumerate(calls)]
    return [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 3, signal),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, len(calls) + 2, 0, os.getpid()),
        (_RETURN, 0, 0, _EPERM),
        *listed,
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
