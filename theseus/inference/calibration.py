"""Measures how far probabilities can be trusted: calibration, abstaining, and loyalty.

Everything here is plain Python on arrays: the Predictions of rows, and label ids, int [rows].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np
import scipy.optimize
import scipy.spatial.distance
import scipy.special

from theseus.inference.metrics import aligned
from theseus.inference.predictions import Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Floats = NDArray[np.floating[Any]]
    _Integers = NDArray[np.integer[Any]]

NUM_BINS = 15
"""As in Guo et al., arXiv 1706.04599."""

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_LARGEST_TEMPERATURE = 100.0


def find_temperature(logits: _Floats, labels: _Integers) -> float | None:
    """Finds the temperature: the divisor of the logits that minimizes the mean cross entropy.

    Source: Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, section 4.2.

    Args:
      logits: float [rows, labels].
      labels: int [rows].

    Returns:
      The temperature, in [0.01, 100]; None if every label has the largest logit, so that the cross
      entropy has no minimum: it falls with the temperature.
    """
    logits = np.asarray(logits, np.float64)
    if (logits.argmax(axis=1) == labels).all():
        return None
    rows = np.arange(len(labels))

    def cross_entropy(log_temperature: float) -> float:
        scaled = scipy.special.log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scaled[rows, labels].mean())

    bound = math.log(_LARGEST_TEMPERATURE)
    least = scipy.optimize.minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded")
    return math.exp(least.x)


def is_inside(temperature: float) -> bool:
    """Returns whether a temperature is inside the range that `find_temperature` searches."""
    return abs(math.log(temperature)) < 0.99 * math.log(_LARGEST_TEMPERATURE)


def reliability(predicted: Predictions, labels: _Integers) -> list[dict[str, Any]]:
    """Returns mean confidence, accuracy and count of the predictions in each of `NUM_BINS` bins.

    The bins are equal intervals of [0, 1]; empty bins are left out.
    """
    confidences, is_right = predicted.confidences, predicted.ids == labels
    numbers = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    return [
        dict(
            confidence=float(confidences[rows].mean()),
            accuracy=float(is_right[rows].mean()),
            count=int(rows.sum()),
        )
        for rows in (numbers == number for number in np.unique(numbers))
    ]


def expected_error(bins: Sequence[Mapping[str, Any]]) -> float:
    """Returns the expected calibration error of `reliability`: the mean distance of accuracy and
    confidence (Guo et al., eq. 3)."""
    distances = [abs(one["accuracy"] - one["confidence"]) for one in bins]
    return float(np.average(distances, weights=[one["count"] for one in bins]))


def at_coverages(predicted: Predictions, labels: _Integers) -> list[dict[str, float]]:
    """Returns accuracy and least confidence of the most confident rows, for each of `COVERAGES`."""
    order = np.argsort(-predicted.confidences, kind="stable")
    confidences, is_right = predicted.confidences[order], (predicted.ids == labels)[order]
    return [
        dict(
            coverage=count / len(order),
            accuracy=float(is_right[:count].mean()),
            confidence=float(confidences[count - 1]),
        )
        for count in (max(1, int(round(coverage * len(order)))) for coverage in COVERAGES)
    ]


def abstaining(predicted: Predictions, labels: _Integers, least: float) -> dict[str, float | None]:
    """Returns the share and accuracy (or None) of predictions with at least this confidence."""
    rows = predicted.confidences >= least
    accuracy = float((predicted.ids == labels)[rows].mean()) if rows.any() else None
    return dict(coverage=float(rows.mean()), accuracy=accuracy, confidence=least)


def loyalty(predicted: Predictions, others: Predictions) -> dict[str, float]:
    """Compares the predictions of a successor and its predecessor for the same rows.

    Source: Xu et al., Beyond Preserved Accuracy, EMNLP 2021, and the functions that their code
    uses: accuracy_score of the labels, and 1 minus jensenshannon of the probabilities.

    Returns:
      Dict of label_loyalty and probability_loyalty.
    """
    distance = scipy.spatial.distance.jensenshannon(
        predicted.probabilities, others.probabilities, axis=1
    )
    distance = np.nan_to_num(distance)  # NaN: two equal rows whose difference rounded below 0.
    same = (predicted.ids == others.ids).mean()
    return {"label_loyalty": float(same), "probability_loyalty": float(1 - distance.mean())}


def format_coverages(covered: Sequence[Mapping[str, float]]) -> str:
    """Returns the result of `at_coverages` as a table, str."""
    rows = [
        ["most confident share"] + ["%.0f%%" % (100 * one["coverage"]) for one in covered],
        ["accuracy"] + ["%.4f" % one["accuracy"] for one in covered],
        ["least confidence"] + ["%.4f" % one["confidence"] for one in covered],
    ]
    return aligned(rows, 9)
