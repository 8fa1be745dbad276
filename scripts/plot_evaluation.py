"""Draws the results of --do_eval: confusion, reliability, and accuracy by confidence.

    python scripts/plot_evaluation.py out_2 [--output=out_2/evaluation.png]

The argument is the output folder of an evaluated stage, or its folder of a mixture. For a
calibrated model it also draws the reliability before the calibration. It needs matplotlib.
"""

import argparse
import os
import sys

import numpy as np

from theseus import records
from theseus.errors import UserError

_SHARE = records.number(0, 1)
_BINS = records.listed(
    records.table({"confidence": _SHARE, "accuracy": _SHARE, "count": records.whole(1)}), 1
)
_RESULTS = records.table(
    {
        "split": records.text(),
        "confusion": records.nullable(records.listed(records.listed(records.whole()), 2)),
        "by_label": records.listed(records.table({"label": records.text()}, others=True), 2),
        "reliability": _BINS,
        "ece": _SHARE,
        "most_confident": records.listed(
            records.table({"coverage": _SHARE, "accuracy": _SHARE, "confidence": _SHARE}), 1
        ),
    },
    others=True,
)
_CALIBRATION = records.table({"reliability_before": _BINS, "ece_before": _SHARE}, others=True)
_MOST_NUMBERS = 12  # With more labels the counts are not written into the squares.


def draw_confusion(panel, results):
    """Draws, for each true label, the shares and counts of the predicted labels."""
    if results["confusion"] is None:
        panel.set_title("too many labels for a confusion table", loc="left")
        return
    counts = np.array(results["confusion"])
    labels = [row["label"] for row in results["by_label"]]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = "small" if len(labels) <= _MOST_NUMBERS else "xx-small"
    panel.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    panel.set_yticks(range(len(labels)), labels, fontsize=size)
    if len(labels) <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            panel.text(column, row, count, ha="center", va="center", color=color, fontsize=size)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    panel.set_title(results["split"], loc="left")


def draw_reliability(panel, results, calibrated):
    """Draws accuracy against confidence; `calibrated` is calibration.json's content, or None."""
    panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    curves = [("ECE %.4f" % results["ece"], results["reliability"], "C0")]
    if calibrated:
        before = "before: %.4f" % calibrated["ece_before"]
        curves.insert(0, (before, calibrated["reliability_before"], "0.5"))
    for name, bins, color in curves:
        place = [[one[key] for one in bins] for key in ("confidence", "accuracy")]
        sizes = [one["count"] for one in bins]
        panel.plot(*place, color=color, label=name)
        panel.scatter(*place, 120 * np.sqrt(np.array(sizes) / max(sizes)), color=color)
    panel.set_xlabel("confidence")
    panel.set_ylabel("accuracy")
    panel.legend(frameon=False)
    panel.grid(alpha=0.3)


def draw_coverage(panel, results):
    """Draws the accuracy of the most confident predictions against their share."""
    found = results["most_confident"]
    panel.plot([one["coverage"] for one in found], [one["accuracy"] for one in found], "o-")
    for one in found:
        place = (one["coverage"], one["accuracy"])
        panel.annotate("%.2f" % one["confidence"], place, (0, 6), textcoords="offset points")
    panel.set_xlabel("share of the predictions (at each point: the lowest confidence)")
    panel.set_ylabel("accuracy")
    panel.margins(y=0.15)
    panel.grid(alpha=0.3)


def draw(plt, folder, output):
    """Draws the results of a folder into a PNG; UserError if they are damaged or missing."""
    path = os.path.join(folder, "eval_results.json")
    if "pearson" in records.read(path, records.mapping(records.anything)):
        raise UserError("%s: the task predicts numbers, the plots need labels" % path)
    results = records.read(path, _RESULTS)
    calibrated = None
    if results.get("temperature", 1) != 1:
        path = os.path.join(folder, "calibration.json")
        calibrated = records.read_if_there(path, _CALIBRATION)
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.6))
    draw_confusion(panels[0], results)
    draw_reliability(panels[1], results, calibrated)
    draw_coverage(panels[2], results)
    figure.tight_layout()
    figure.savefig(output, dpi=90)


def main():
    """Writes the picture, and prints its path."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="output folder of a stage, such as out_2")
    parser.add_argument("--output", help="PNG file to write; default: evaluation.png in the folder")
    arguments = parser.parse_args()
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit("plot_evaluation.py: needs matplotlib; pip install matplotlib")
    output = arguments.output or os.path.join(arguments.folder, "evaluation.png")
    try:
        draw(plt, arguments.folder, output)
    except UserError as error:
        sys.exit("plot_evaluation.py: %s" % error)
    except OSError as error:
        sys.exit("plot_evaluation.py: %s: cannot be written: %s" % (output, error.strerror))
    print(output)


if __name__ == "__main__":
    main()
