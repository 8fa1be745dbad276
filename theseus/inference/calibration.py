"""How far probabilities can be trusted: calibration, what abstaining gains, and loyalty.

Everything here is plain Python on arrays: logits, float [rows, labels], and label ids, int [rows].
A prediction's confidence is the probability of the label that is predicted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence

import numpy as np
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import sklearn.metrics

from theseus.inference.metrics import predicted_ids, probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Floats = NDArray[np.floating[Any]]
    _Integers = NDArray[np.integer[Any]]

NUM_BINS = 15
"""As in Guo et al., arXiv 1706.04599."""

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_LARGEST_TEMPERATURE = 100.0


class Bin(NamedTuple):
    """The predictions whose confidence is in one of `NUM_BINS` equal intervals of [0, 1]."""

    confidence: float
    accuracy: float
    count: int


class Covered(NamedTuple):
    """The most confident predictions: their share of all, accuracy and least confidence."""

    coverage: float
    accuracy: float | None
    confidence: float


def find_temperature(logits: _Floats, labels: _Integers) -> float | None:
    """Finds what logits are to be divided by for the least mean cross entropy.

    Source: Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, section 4.2.

    Returns:
      The temperature, in [0.01, 100]; None where every label has the largest logit: the smaller
      it is, the less is the cross entropy.
    """
    if (predicted_ids(logits) == labels).all():
        return None
    logits = np.asarray(logits, np.float64)
    rows = np.arange(len(labels))

    def cross_entropy(log_temperature: float) -> float:
        scaled = scipy.special.log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scaled[rows, labels].mean())

    bound = math.log(_LARGEST_TEMPERATURE)
    found = scipy.optimize.minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded")
    return math.exp(found.x)


def is_inside(temperature: float) -> bool:
    """Returns whether a temperature is not at a bound of what `find_temperature` looks through."""
    return abs(math.log(temperature)) < 0.99 * math.log(_LARGEST_TEMPERATURE)


def confidences(logits: _Floats, threshold: float | None = None) -> NDArray[np.float64]:
    """Returns the confidence of each prediction, float64 [rows]; see metrics.predicted_ids."""
    found: NDArray[np.float64] = probabilities(logits)[
        np.arange(len(logits)), predicted_ids(logits, threshold)
    ]
    return found


def reliability(logits: _Floats, labels: _Integers, threshold: float | None = None) -> list[Bin]:
    """Returns the Bins that are not empty, by their confidence."""
    confidence = confidences(logits, threshold)
    is_right = predicted_ids(logits, threshold) == labels
    numbers = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    return [
        Bin(float(confidence[rows].mean()), float(is_right[rows].mean()), int(rows.sum()))
        for rows in (numbers == number for number in np.unique(numbers))
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """Returns the expected calibration error of `reliability`: the mean distance of accuracy and
    confidence (Guo et al., eq. 3)."""
    distances = [abs(one.accuracy - one.confidence) for one in bins]
    return float(np.average(distances, weights=[one.count for one in bins]))


def at_coverages(
    logits: _Floats, labels: _Integers, threshold: float | None = None
) -> list[Covered]:
    """Returns what the most confident predictions are worth, for each of `COVERAGES`."""
    confidence = confidences(logits, threshold)
    order = np.argsort(-confidence, kind="stable")
    is_right = (predicted_ids(logits, threshold) == labels)[order]
    counts = [max(1, int(round(coverage * len(order)))) for coverage in COVERAGES]
    return [
        Covered(
            count / len(order), float(is_right[:count].mean()), float(confidence[order[count - 1]])
        )
        for count in counts
    ]


def abstaining(
    logits: _Floats, labels: _Integers, least: float, threshold: float | None = None
) -> Covered:
    """Returns what the predictions are worth of at least so much confidence."""
    rows = confidences(logits, threshold) >= least
    is_right = (predicted_ids(logits, threshold) == labels)[rows]
    return Covered(float(rows.mean()), float(is_right.mean()) if rows.any() else None, least)


def loyalty(logits: _Floats, others: _Floats, threshold: float | None = None) -> dict[str, float]:
    """Compares the predictions of a successor with its predecessor's.

    Source: Xu et al., Beyond Preserved Accuracy, EMNLP 2021, and the functions that their code
    names: accuracy_score of the labels, and 1 minus jensenshannon of the probabilities.

    Args:
      logits: the successor's.
      others: the predecessor's, of the same shape.
      threshold: of both, see metrics.predicted_ids.

    Returns:
      Dict of label_loyalty and probability_loyalty.
    """
    distance = scipy.spatial.distance.jensenshannon(
        probabilities(logits), probabilities(others), axis=1
    )
    distance = np.nan_to_num(distance)  # Of what are the same, where rounding went below 0.
    same = sklearn.metrics.accuracy_score(
        predicted_ids(others, threshold), predicted_ids(logits, threshold)
    )
    return {"label_loyalty": float(same), "probability_loyalty": float(1 - distance.mean())}


# --- In words ---


def format_coverages(covered: Sequence[Covered]) -> str:
    """Returns what `at_coverages` has found as a table, str."""
    rows = [
        ("most confident share", ["%.0f%%" % (100 * one.coverage) for one in covered]),
        ("accuracy", ["%.4f" % one.accuracy for one in covered if one.accuracy is not None]),
        ("least confidence", ["%.4f" % one.confidence for one in covered]),
    ]
    return "\n".join("%-20s" % name + "".join("%9s" % c for c in cells) for name, cells in rows)
