"""Limits of a process: if one is too low, TensorFlow ends without a helpful message."""

from __future__ import annotations

import resource

from theseus.errors import UserError

_LEAST_ADDRESS_SPACE = 3 << 30  # 2.5e9 bytes were enough for two threads and a tiny model.


def check_little_memory() -> None:
    """Raises UserError if the shell allows less address space than TensorFlow maps."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY and allowed < _LEAST_ADDRESS_SPACE:
        raise UserError(
            "the shell allows %.1f GB of address space, TensorFlow needs %.1f; raise the limit "
            "with ulimit -v" % (allowed / 1e9, _LEAST_ADDRESS_SPACE / 1e9)
        )
