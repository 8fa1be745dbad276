"""Checks weights from outside: they must be finite numbers that float32 represents exactly."""

import abc
import collections.abc
import copy
import os
import re

import numpy as np

from theseus.errors import UserError

DTYPES = ("float32", "float16", "bfloat16", "float64")
"""The dtypes of weights, by numpy's names. float32 represents all numbers of the first three; a
float64 weight must have a value that float32 represents."""

# Weights that are never all whole numbers after a training.
_NEVER_WHOLE = re.compile(r"bert/(encoder/.*/kernel|embeddings/word_embeddings)$")


class Weights(collections.abc.Mapping):
    """Weights as a mapping from TF1 BERT's names to arrays, each read when it is needed.

    Fields:
      prefix: str, the path of the file or files.
      shapes: dict from name to list of int.
      dtypes: dict from name to str, numpy's name of the dtype if numpy or TensorFlow has it.
      originals: dict from name to str, the name in the file.
      stripped: str, the prefix of all names in the file, which the names here do not have.
    """

    def __init__(self, prefix, names, of_bert):
        """Begins without weights; `add` adds each of them.

        Args:
          prefix: str, the path.
          names: iterable of str, all names in the file.
          of_bert: compiled regular expression of a name that each BERT has once; its first group
            is the prefix of all names.
        """
        self.prefix = prefix
        self.shapes, self.dtypes, self.originals = {}, {}, {}
        self._order = {}
        before = {known.group(1) for known in map(of_bert.match, names) if known}
        self.stripped = before.pop() if len(before) == 1 else ""

    def without_prefix(self, original):
        """Returns a name of the file without the prefix of all the BERT's names."""
        is_prefixed = original.startswith(self.stripped)
        return original[len(self.stripped) :] if is_prefixed else original

    def add(self, name, original, shape, dtype, place):
        """Adds a weight: its name, and its entries of `originals`, `shapes` and `dtypes`.

        Raises:
          UserError: there is one of that name already; the message contains `place`, a str.
        """
        if name in self.originals:
            both = "%s and %s both name %s" % (self.originals[name], original, name)
            raise UserError("%s: %s; remove one" % (place, both))
        self.originals[name], self.shapes[name], self.dtypes[name] = original, shape, dtype

    def with_rows(self, names, order):
        """Returns these weights with the rows of some of them in another order.

        Args:
          names: iterable of str, the weights to reorder.
          order: list of int, the original index of each row.
        """
        reordered = copy.copy(self)
        reordered._order = dict.fromkeys(names, order)
        return reordered

    @abc.abstractmethod
    def _read(self, name):
        """Returns an array with the dtype of the file; bfloat16 may become float32."""

    def __getitem__(self, name):
        """Returns a float32 array; unchanged if its dtype is not one of a weight.

        Raises:
          KeyError: there is none of that name.
          UserError: it cannot be read, or a value is refused; see `as_weight`.
        """
        if name not in self.shapes:
            raise KeyError(name)
        array = self._read(name)
        if name in self._order:
            array = array[self._order[name]]
        if self.dtypes[name] not in DTYPES:
            return array
        return as_weight(array, "%s: %s" % (self.prefix, name), _NEVER_WHOLE.match(name))

    def __iter__(self):
        return iter(sorted(self.shapes))

    def __len__(self):
        return len(self.shapes)


def as_weight(array, place, is_never_whole):
    """Returns an array as float32.

    Args:
      array: of one of `DTYPES`.
      place: str, for the message.
      is_never_whole: bool, whether an array of whole numbers only is a mistake.

    Raises:
      UserError: a value is not finite; or float32 does not represent it exactly; or all are whole.
    """
    with np.errstate(over="ignore"):
        taken = np.asarray(array, np.float32)
    if array.dtype == np.float64 and not np.array_equal(taken, array):
        if np.isfinite(array).all():
            raise UserError(
                "%s: float64 values exceed float32 precision; save the file as float32" % place
            )
    if not np.isfinite(taken).all():
        raise UserError(
            "%s: holds NaN or infinite numbers; the training that wrote it diverged" % place
        )
    if is_never_whole and np.array_equal(taken, np.rint(taken)):
        raise UserError("%s: holds only whole numbers; it was rounded, or never trained" % place)
    return taken


def check_dtype(weights, name):
    """Raises UserError if one of the Weights has a dtype that is not in `DTYPES`."""
    if weights.dtypes[name] not in DTYPES:
        raise UserError(
            "%s: %s has dtype %s, expected one of %s; save it as float32"
            % (weights.prefix, name, weights.dtypes[name], ", ".join(DTYPES))
        )


def check_link(path):
    """Raises UserError if a file is a link that leads out of its folder.

    The hub's cache is an exception: models--*/snapshots/<revision> links to models--*/blobs.
    """
    folder = os.path.realpath(os.path.dirname(path))
    inside = [folder]
    before, is_snapshot, _ = folder.rpartition(os.sep + "snapshots" + os.sep)
    if is_snapshot:
        inside.append(os.path.realpath(os.path.join(before, "blobs")))
    real = os.path.realpath(path)
    if os.path.dirname(real) not in inside:
        raise UserError(
            "%s: is a link to %s, outside its folder; replace the link with a copy" % (path, real)
        )
