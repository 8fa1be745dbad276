"""Draws the time of inference by layers, length and batch size.

    python scripts/benchmarks/plot_benchmarks.py inference.json [more.json ...] inference.png

It reads the files that benchmark_inference.py writes with --json. It needs matplotlib.
"""

import collections
import io
import json
import sys

import matplotlib.pyplot as plt

# Each panel: its x axis, the field fixed at its largest value, and the field that each line has.
PANELS = [
    ("layers", "layers of the model", "tokens", "batch_size"),
    ("tokens", "tokens of a pair", "batch_size", "layers"),
    ("batch_size", "pairs in a batch", "tokens", "layers"),
]


def lines_of(rows, axis, fixed, told_apart):
    """Returns an OrderedDict from a line's name to its points [(x, milliseconds a batch)]."""
    largest = max(row[fixed] for row in rows)
    lines = collections.OrderedDict()
    for row in sorted(rows, key=lambda row: row[axis]):
        if row[fixed] == largest:
            name = "%s = %s, %s" % (told_apart.replace("_", " "), row[told_apart], row["precision"])
            lines.setdefault(name, []).append((row[axis], row["graph_p50_ms"]))
    return lines


def draw(rows, path):
    """Draws the panels side by side."""
    figure, panels = plt.subplots(1, len(PANELS), figsize=(5 * len(PANELS), 4))
    for panel, (axis, label, fixed, told_apart) in zip(panels, PANELS):
        for name, points in lines_of(rows, axis, fixed, told_apart).items():
            panel.plot(*zip(*points), marker="o", label=name)
        panel.set(xlabel=label, ylabel="milliseconds a batch (median)", ylim=(0, None))
        panel.set_title("%s = %.4g" % (fixed.replace("_", " "), max(row[fixed] for row in rows)))
        panel.legend(fontsize="small")
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main(paths):
    if len(paths) < 2:
        sys.exit("plot_benchmarks.py: give files of benchmark_inference.py --json, then a PNG")
    rows = []
    for path in paths[:-1]:
        with io.open(path, encoding="utf-8") as reader:
            rows += json.load(reader)
    draw(rows, paths[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
