"""Arrays that are kept on disk under a name made of what they were made from."""

from __future__ import annotations

import contextlib
import os
import zipfile
from typing import TYPE_CHECKING, Any, Callable, Sequence

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def through_cache(
    path: str | None, names: Sequence[str], make: Callable[[], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Returns the arrays that a file keeps, or else those of `make`, then kept.

    A file that cannot be read or written is done without.

    Args:
      path: named after the content of what the arrays are made from; None: nothing is kept.
      names: those of the arrays.
      make: function without arguments that returns them by name.
    """
    if path is None:
        return make()
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        made: dict[str, Any] = dict(make())
    temporary = "%s.%d.npz" % (path, os.getpid())
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        np.savez(temporary, **made)
        os.replace(temporary, path)
    return made
