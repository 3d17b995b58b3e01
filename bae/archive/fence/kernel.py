"""What Linux takes away from the decoding process, each where this kernel has it without root.

The kernel's own pages: Documentation/userspace-api/landlock.rst, seccomp_filter.rst,
no_new_privs.rst; man user_namespaces(7), network_namespaces(7), prctl(2).
"""

import ctypes
import os
import resource
import struct
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from bae.archive.fence import syscalls

LIMITS, PRIVILEGES, CAPABILITIES = "limits", "no_new_privileges", "no_capabilities"
NAMESPACE, NETWORK = "user_namespace", "network_namespace"
FILES, TCP, SCOPE = "landlock_files", "landlock_tcp", "landlock_scope"
CALLS, HIDDEN = "seccomp", "parent_hidden"
NAMES = (LIMITS, NAMESPACE, NETWORK, CAPABILITIES, PRIVILEGES, FILES, TCP, SCOPE, CALLS, HIDDEN)
"""The fences: rlimits; a user and a network namespace of the child's own; no capability left;
nothing executed gives rights; only Python's and the system's libraries can be opened, to read; no
TCP; no signals and sockets to processes outside; a list of system calls refused; the parent's
memory and environment closed to its own user (only where no other fence closes them)."""

_OPEN_FILES = 128
_NEW_USER, _NEW_NET, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 3, 4, 24, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Landlock version to how many rights on files it knows; later versions know as many."""
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_LINKER = ("/etc/ld.so.cache", "/dev/null")


def enter(limit_bytes: int) -> list[str]:
    """Take from this process what needs no knowledge of files; before it has threads.

    Args:
        limit_bytes: address space.

    Returns:
        Names of the fences that hold.
    """
    held = [LIMITS]
    for what, most in (
        (resource.RLIMIT_CORE, 0),  # a core file would hold the object
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_AS, limit_bytes),
    ):
        if not _lower(what, most):
            held = []
    return held + _namespaces(_libc())


def close(modules: Mapping[str, object]) -> list[str]:
    """Take the rest from this process, once all is imported that it needs at once.

    Args:
        modules: ``sys.modules``; their packages' files stay readable.

    Returns:
        Names of the fences that hold.
    """
    libc, held = _libc(), []
    # no process and no thread more; root's are not counted
    _lower(resource.RLIMIT_NPROC, 0)
    # not even its own user's other children may look into it
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if _drop_capabilities(libc):
        held.append(CAPABILITIES)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held.append(PRIVILEGES)
    held += _landlock(libc, _readable(modules))
    if syscalls.refuse(libc):
        held.append(CALLS)
    return held


class Hidden:
    """Closes this process' memory and environment to other processes of its user.

    Ray's agent, as the same user, counts the open files of its workers and fails where it may
    not, so this is for kernels that have no other fence round the parent.
    """

    _lock = threading.Lock()
    _holders = 0
    _before = 1

    def start(self) -> bool:
        """Hide it until as many calls of ``end``; say whether this holds."""
        with Hidden._lock:
            if not Hidden._holders:
                Hidden._before = _libc().prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
            Hidden._holders += 1
            return bool(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)

    def end(self) -> None:
        """Undo one ``start``."""
        with Hidden._lock:
            Hidden._holders -= 1
            if not Hidden._holders:
                _libc().prctl(_PR_SET_DUMPABLE, Hidden._before, 0, 0, 0)


def _namespaces(libc: ctypes.CDLL) -> list[str]:
    """Leave the network, and the users whose processes it could look into."""
    if libc.unshare(_NEW_USER | _NEW_NET | _NEW_IPC) == 0:
        return [NAMESPACE, NETWORK]
    # root in a container that may make no users
    return [NETWORK] if libc.unshare(_NEW_NET) == 0 else []


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _lower(what: int, most: int) -> bool:
    """Set a limit that can only be lowered from here on; say whether it holds."""
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    try:
        resource.setrlimit(what, (most, most))
    except (ValueError, OSError):
        return False
    return True


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Give up what root may and what the namespace gave."""
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    head = ctypes.create_string_buffer(struct.pack("<II", 0x20080522, 0))  # version 3, self
    return bool(libc.capset(head, ctypes.create_string_buffer(24)) == 0)


def _readable(modules: Mapping[str, object]) -> Iterator[str]:
    """Yield files and folders that imports and the linker may still need."""
    yield from _LINKER
    yield from _LIBRARIES
    yield from (path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path)
    paths = sysconfig.get_paths()
    yield from {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    yield from {f"{prefix}/lib" for prefix in (sys.prefix, sys.base_prefix)}
    for name, module in list(modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name and name != "__main__":
            yield str(Path(file).parent) if hasattr(module, "__path__") else file


def _landlock(libc: ctypes.CDLL, readable: Iterator[str]) -> list[str]:
    """Refuse all files but the readable ones, TCP, and signals and sockets to others."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return []
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    known = 8 if version < 4 else 16 if version < 6 else 24
    wanted = struct.pack("<QQQ", rights, 0b11, 0b11)[:known]
    ruleset = libc.syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
    if ruleset < 0:
        return []
    for path in set(readable):
        _allow(libc, ruleset, path)
    done = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    names = [FILES] + [TCP] * (version >= 4) + [SCOPE] * (version >= 6)
    return names if done else []


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    """Let a file or all below a folder be read; what is not there stays closed."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rights = _READ_FILE | (_READ_DIR if Path(path).is_dir() else 0)
    libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("<Qi", rights, place), 0)
    os.close(place)
