"""Describes the software and hardware of a run; the exact bits of a result depend on them."""

from __future__ import annotations

import io
import math
import os
import platform
import subprocess
from typing import Any, Mapping

import numpy as np

import theseus
from theseus.quiet import import_tensorflow

# Processor features, as Linux names them, by which libraries choose their matrix products.
_FEATURES = (
    "sse4_1 avx avx2 fma avx512f avx512_vnni avx512_bf16 avx_vnni amx_tile amx_int8 amx_bf16 "
    "avx_ne_convert asimd sve bf16 i8mm"
).split()

# Files of cgroup 2 and 1 with a container's limit: microseconds of processor time in each period,
# and the period.
_LIMITS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def processor_features() -> set[str]:
    """Returns the names of the processor's features, a set of str; empty if unknown."""
    return set(" ".join(_processor("flags", "features")).split())


def _processor(*names: str) -> list[str]:
    """Returns the values of these names in /proc/cpuinfo, in lower case, a list of str."""
    try:
        with io.open("/proc/cpuinfo", encoding="utf-8", errors="replace") as reader:
            lines = [line.lower().split(":", 1) for line in reader if ":" in line]
    except OSError:
        return []
    return [value.strip() for name, value in lines if name.strip() in names]


def describe() -> dict[str, Any]:
    """Returns the software and hardware of this process, a dict of JSON values."""
    found = processor_features()
    tf = import_tensorflow()
    return {
        "program": " ".join(filter(None, [theseus.__version__, _commit()])),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "processor": next(iter(_processor("model name")), platform.machine()),
        "processor_features": [name for name in _FEATURES if name in found],
        "num_processors": _num_own_processors(),  # TensorFlow does not know of a limit.
    }


def num_processors() -> int:
    """Returns the processors that this process may use, at most its container's limit, an int."""
    return max(1, math.ceil(min(_num_own_processors(), _container_limit())))


def is_limited() -> bool:
    """Returns whether a container's limit allows less than the processors that programs see."""
    return num_processors() < _num_own_processors()


def _num_own_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _container_limit() -> float:
    """Returns a container's limit of processor time as a number of processors; inf if none."""
    for paths in _LIMITS:
        try:
            quota, period = map(float, " ".join(map(_text, paths)).split())
        except (OSError, ValueError):  # Not there, or "max".
            continue
        if quota > 0:
            return quota / period
    return math.inf


def _text(path: str) -> str:
    with io.open(path, encoding="utf-8") as reader:
        return reader.read()


def _commit() -> str | None:
    """Returns the commit of the program's own git checkout, str; None if there is none."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(theseus.__file__)))
    if not os.path.exists(os.path.join(root, ".git")):  # A checkout in a parent folder is another.
        return None
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.check_output(command, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.decode("utf-8").strip()


def describe_change(environment: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns in words, str, how two results of `describe` differ; "" if they do not.

    Args:
      environment, now: dicts as from `describe`; a key that only one of them has is ignored.
    """
    changed = []
    for name in now:
        if name == "processor_features" and name in environment:
            lost = sorted(set(environment[name]) - set(now[name]))
            gained = sorted(set(now[name]) - set(environment[name]))
            changed += ["without " + feature for feature in lost]
            changed += ["with " + feature for feature in gained]
        elif name in environment and environment[name] != now[name]:
            changed.append("%s %s, not %s" % (name, now[name], environment[name]))
    return ", ".join(changed)
