"""A list of system calls that decoding never makes, as a seccomp filter.

It holds where a container may make no namespaces: Docker's and containerd's own filters let a
process add filters. Numbers are those of the kernel's tables
(arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h).
"""

import ctypes
import platform
import struct

_REFUSED: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41,
            "connect": 42,
            "sendto": 44,
            "bind": 49,
            "listen": 50,
            "socketpair": 53,
            "execve": 59,
            "kill": 62,
            "ptrace": 101,
            "mount": 165,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "bpf": 321,
            "execveat": 322,
            "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "mount": 40,
            "unshare": 97,
            "ptrace": 117,
            "kill": 129,
            "socket": 198,
            "socketpair": 199,
            "bind": 200,
            "listen": 201,
            "connect": 203,
            "sendto": 206,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "execve": 221,
            "perf_event_open": 241,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "bpf": 280,
            "execveat": 281,
            "userfaultfd": 282,
        },
    ),
}
"""Machine: its number in a filter (linux/audit.h) and its numbers of system calls."""
# io_uring opens sockets without the calls above; these numbers are the same on all machines
_EVERYWHERE = {"io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438}

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _NOT_PERMITTED = 0x7FFF0000, 0x00050001
_FIRST_OF_X32 = 0x40000000
"""x86-64's second table of system calls; programs of ours never use it."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def refuse(libc: ctypes.CDLL) -> bool:
    """Let the listed system calls of this thread fail with EPERM; say whether this holds.

    ``no_new_privileges`` must be set before.
    """
    if platform.machine() not in _REFUSED:
        return False
    machine, table = _REFUSED[platform.machine()]
    numbers = [*table.values(), *_EVERYWHERE.values()]
    # each step: what to do, how many to jump over if so and if not, a number
    steps = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _NOT_PERMITTED)]
    steps += [(_LOAD, 0, 0, 0), (_IF_AT_LEAST, len(numbers) + 1, 0, _FIRST_OF_X32)]
    steps += [(_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOT_PERMITTED)]
    code = b"".join(struct.pack("<HBBI", what, yes, no, k) for what, yes, no, k in steps)
    kept = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(steps), ctypes.addressof(kept))
    mode, none = ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_ulong(0)
    return bool(libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(program), none, none) == 0)
