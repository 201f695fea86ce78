"""What of the machine a program may see: the system's own folders and Python's, never a user's."""

from __future__ import annotations

import os
import sys

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
          "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def readable() -> list[str]:
    """Existing paths that programs may read and execute from, none inside another."""
    prefixes = [os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    paths = [*SYSTEM, *prefixes, os.path.abspath(sys.prefix), os.path.abspath(sys.exec_prefix)]
    found = [path for path in dict.fromkeys(paths) if path != "/" and os.path.lexists(path)]
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def devices() -> list[str]:
    """Existing device files that programs may use."""
    return [path for path in DEVICES if os.path.exists(path)]
