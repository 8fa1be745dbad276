"""What a weight from outside may be: finite numbers that float32 holds exactly, and no others."""

import abc
import collections.abc
import copy
import os
import re

import numpy as np

from theseus.errors import UserError

DTYPES = ("float32", "float16", "bfloat16", "float64")
"""The dtypes of weights, by numpy's names: float32 has all numbers of the first three, and of
float64 those that count as exact."""

# What no training leaves without a fraction.
_NEVER_WHOLE = re.compile(r"bert/(encoder/.*/kernel|embeddings/word_embeddings)$")


class Weights(collections.abc.Mapping):
    """Weights as a mapping from TF1 BERT's names to arrays, each read when it is asked for.

    Fields:
      prefix: str, where they lie.
      shapes: dict from name to list of int.
      dtypes: dict from name to str, numpy's name of a dtype where numpy or TensorFlow has it.
      originals: dict from name to str, what it is called there.
      stripped: str, what stands there before the names, and is no part of them here.
    """

    def __init__(self, prefix, names, of_bert):
        """Takes where they lie; `add` takes each of them.

        Args:
          prefix: str.
          names: iterable of str, what all of them are called there.
          of_bert: compiled regular expression of a name that each BERT has once, whose first group
            is what stands before it.
        """
        self.prefix = prefix
        self.shapes, self.dtypes, self.originals = {}, {}, {}
        self._order = {}
        before = {known.group(1) for known in map(of_bert.match, names) if known}
        self.stripped = before.pop() if len(before) == 1 else ""

    def without_prefix(self, original):
        """Returns a name there without what stands before all of the BERT's names."""
        is_prefixed = original.startswith(self.stripped)
        return original[len(self.stripped) :] if is_prefixed else original

    def add(self, name, original, shape, dtype, place):
        """Takes a weight: its name, and its `originals`, `shapes` and `dtypes`.

        Raises:
          UserError: there is one of that name; `place`, str, says where.
        """
        if name in self.originals:
            both = "%s and %s both name %s" % (self.originals[name], original, name)
            raise UserError("%s: %s; remove one" % (place, both))
        self.originals[name], self.shapes[name], self.dtypes[name] = original, shape, dtype

    def with_rows(self, names, order):
        """Returns these weights with the rows of some of them in another order.

        Args:
          names: iterable of str, which ones.
          order: list of int, the number of each row as it lies there.
        """
        reordered = copy.copy(self)
        reordered._order = dict.fromkeys(names, order)
        return reordered

    @abc.abstractmethod
    def _read(self, name):
        """Returns an array as it lies there; of bfloat16 perhaps as float32."""

    def __getitem__(self, name):
        """Returns a float32 array; what is none of a weight's dtypes, as it is.

        Raises:
          KeyError: there is none of that name.
          UserError: it cannot be read, or holds what no weight is; see `as_weight`.
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
      is_never_whole: bool, whether nothing but whole numbers is taken for a mistake.

    Raises:
      UserError: it is not finite; or float32 does not hold it exactly; or it is whole.
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
    """Raises UserError where one of Weights is of a dtype that is none of `DTYPES`."""
    if weights.dtypes[name] not in DTYPES:
        raise UserError(
            "%s: %s has dtype %s, expected one of %s; save it as float32"
            % (weights.prefix, name, weights.dtypes[name], ", ".join(DTYPES))
        )


def check_link(path):
    """Raises UserError where a file is a link that leads out of its folder.

    In the hub's cache models--*/snapshots/<revision> holds links into models--*/blobs.
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
