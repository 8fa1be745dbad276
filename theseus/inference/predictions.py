"""Logits over a set of examples, and predictions: made once of the logits, and written as rows.

Nothing here imports TensorFlow, scikit-learn or scipy: what answers with an export can do without.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from theseus.errors import UserError
from theseus.inputs import batches
from theseus.inputs import rows as rows_lib

if TYPE_CHECKING:
    from typing import TextIO

    from numpy.typing import NDArray

    from theseus.inputs.encoding import EncodedExamples
    from theseus.inputs.reading import Example
    from theseus.inputs.tasks import Task

    _Floats = NDArray[np.floating[Any]]
    _Integers = NDArray[np.integer[Any]]


# --- Logits ---


def progress_bar(description: str, num_examples: int) -> tqdm[Any]:
    """Returns a bar on a terminal that counts examples, for `compute_logits`."""
    return tqdm(None, description, num_examples, leave=False, unit="example", disable=None)


def compute_logits(
    run: Callable[[Mapping[str, _Integers]], _Floats],
    encoded: EncodedExamples,
    batch_size: int,
    bar: tqdm[Any] | None = None,
) -> NDArray[np.float32]:
    """Runs a classifier over all rows.

    Args:
      run: function from a batch's arrays, as from EncodedExamples.batch, to logits, float32
        [B, num_outputs], such as evaluation.runner returns.
      encoded: encoding.EncodedExamples, of one row or more.
      batch_size: int.
      bar: a `progress_bar`; None: there is none.

    Returns:
      float32 [rows, num_outputs], in the order of the rows.

    Raises:
      UserError: a logit is infinite or not a number.
    """
    is_padded = bool(encoded.padded_lengths)  # Then a cut saves little or nothing.
    make_plan = batches.plan_in_length_order if is_padded else batches.plan_with_little_padding
    plan = make_plan(encoded.lengths, batch_size)
    parts = []
    for rows in plan:
        parts.append(run(encoded.batch(rows)))
        if bar is not None:
            bar.update(len(rows))
    logits = np.empty([len(encoded), parts[0].shape[1]], np.float32)
    logits[np.concatenate(plan)] = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise UserError("the model's logits are not finite numbers: its training has diverged")
    return logits


# --- What follows from them ---


def probabilities(logits: _Floats) -> NDArray[np.float64]:
    """Returns the softmax of float logits, float64 [rows, labels]: the labels' probabilities."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions(object):
    """What a model predicts for some examples.

    Attributes:
      task: a tasks.Task.
      logits: float [rows, outputs].
      probabilities: float64 [rows, labels].
      ids: int64 [rows], the predicted labels.
      confidences: float64 [rows], the probability of each predicted label.

    For regression the prediction is `scores`, and the last three mean nothing.
    """

    task: Task
    logits: _Floats
    probabilities: NDArray[np.float64]
    ids: NDArray[np.int64]
    confidences: NDArray[np.float64]

    @classmethod
    def of(cls, task: Task, logits: _Floats, threshold: float | None = None) -> Predictions:
        """Returns what logits predict.

        Args:
          task: a tasks.Task.
          logits: float [rows, outputs].
          threshold: float, the least probability of the second of two labels at which it is the
            predicted one; None: the label of the largest logit is.
        """
        shares = probabilities(logits)
        if threshold is None:
            ids = np.argmax(logits, axis=1)
        else:
            ids = (shares[:, 1] >= threshold).astype(np.int64)
        return cls(task, logits, shares, ids, shares[np.arange(len(ids)), ids])

    @property
    def scores(self) -> NDArray[np.float64]:
        """The predicted numbers of a regression, float64 [rows]."""
        return self.logits[:, 0].astype(np.float64)

    def take(self, rows: _Integers) -> Predictions:
        """Returns the Predictions of rows, int [n], in their order."""
        return Predictions(
            self.task,
            self.logits[rows],
            self.probabilities[rows],
            self.ids[rows],
            self.confidences[rows],
        )


# --- As rows of a file ---


def write_predictions(
    writer: TextIO,
    pools: Iterable[tuple[Sequence[Example], Predictions]],
    abstain_below: float | None = None,
    format: str = "tsv",
    delimiter: str = ",",
    like: Example | None = None,
) -> int:
    """Writes predictions as rows with names.

    The columns are index (the row of a reading.Example, or else its place here), text_a,
    text_b (where there is one), label (where the file has labels; empty where one is not
    known), an Example's others, and predicted_label with a probability for each label, and
    is_uncertain, 1 or 0, where there is what to abstain below; for regression predicted_score
    alone. One of the others that bears one of these names is called input_<name>.

    Args:
      writer: a text file that writes line ends as they are.
      pools: iterable of (list of reading.Example, their Predictions).
      abstain_below: float, the probability below which a prediction is uncertain; or None.
      format: str, one of rows.FORMATS.
      delimiter: see rows.write_row.
      like: a reading.Example, whose columns there are; None: the first one that is predicted.

    Returns:
      int, the number of predictions.
    """
    count, known = 0, None
    for examples, predicted in pools:
        if known is None:
            first = like or examples[0]
            columns = ("text_a", "text_b", "label")
            known = [name for name in columns if getattr(first, name) is not None]
            others = list(first.others or ())
            names = _names(predicted.task, known, others, abstain_below)
            if format != "jsonl":
                writer.write(rows_lib.write_row(names, names, format, delimiter))
        for example, cells in zip(examples, _cells(predicted, abstain_below, format)):
            index = count if example.row is None else example.row
            values = example.others or {}
            if format == "jsonl":  # Whose lines have each their own keys.
                others = list(values)
                names = _names(predicted.task, known, others, abstain_below)
            row = [index] + [getattr(example, name) for name in known]
            row += [values[name] for name in others] + cells
            writer.write(rows_lib.write_row(names, row, format, delimiter))
            count += 1
    return count


def _names(
    task: Task, known: list[str], others: list[str], abstain_below: float | None
) -> list[str]:
    """Returns the names of the columns, list of str, each of them once."""
    before = ["index"] + known
    if task.is_regression:
        behind = ["predicted_score"]
    else:
        behind = ["predicted_label"] + ["probability_%s" % label for label in task.known_labels]
        behind += [] if abstain_below is None else ["is_uncertain"]
    for name in others:
        while name in before or name in behind:
            name = "input_" + name
        before.append(name)
    return before + behind


def _cells(predicted: Predictions, abstain_below: float | None, format: str) -> Iterator[list[Any]]:
    """Yields what is predicted for each row, a list of cells."""

    def number(value: float) -> float | str:
        return round(float(value), 8) if format == "jsonl" else "%.8f" % value

    if predicted.task.is_regression:
        for score in predicted.scores:
            yield [number(score)]
        return
    labels = predicted.task.known_labels
    rows = zip(predicted.ids, predicted.probabilities, predicted.confidences)
    for label_id, shares, confidence in rows:
        is_uncertain = [] if abstain_below is None else [int(confidence < abstain_below)]
        yield [labels[label_id], *map(number, shares), *is_uncertain]
