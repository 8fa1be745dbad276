"""Draws the curves of stages: loss, dev score, replacing rate and modules replaced.

    python scripts/plot_run.py out_1 [out_2 ...] [--output=out_1/run.png]

The arguments are output folders of stages, finished or not; each gets a column of the picture. It
needs matplotlib.
"""

import argparse
import os
import sys

import numpy as np

from theseus.errors import UserError, first_line
from theseus.quiet import quiet_tensorflow

with quiet_tensorflow():
    import tensorflow.compat.v1 as tf

    from theseus.inference import metrics
    from theseus.inputs import tasks
    from theseus.runs.stage_folder import StageFolder
    from theseus.session import set_up_tensorflow
    from theseus.training import curves

LOSS, METRIC, RATE, REPLACED = "C0", "C3", "C2", "C1"
_SMOOTHED_SHARE = 0.05  # A point of a smoothed line is the mean over this share of all steps.


def read_run(path):
    """Returns (run_config, state, scalars) of a stage's folder.

    Raises:
      UserError: it is not a stage's folder, or has no curves.
    """
    folder = StageFolder(path)
    run_config = folder.run_config()
    if run_config is None:
        raise UserError("%s: is not the output folder of a stage" % path)
    try:
        scalars = curves.read_scalars(path)
    except tf.errors.OpError as error:
        raise UserError("%s: its events cannot be read: %s" % (path, first_line(error)))
    if "loss" not in scalars:
        raise UserError("%s: holds no events of a training; train the stage first" % path)
    return run_config, folder.state(), scalars


def smooth(values):
    """Returns the mean of the values around each one, float64 of the same length."""
    half = int(len(values) * _SMOOTHED_SHARE / 2)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.arange(len(values))
    first, end = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def score_points(task, scalars):
    """Returns the dev score that selects the best checkpoint, a list of (step, float)."""
    columns = [dict(scalars.get(curves.EVALUATION + name, [])) for name in task.metrics]
    steps = sorted(set(columns[0]).intersection(*columns))  # A metric may be undefined at a step.
    return [(step, np.mean([column[step] for column in columns])) for step in steps]


def draw_curve(panel, points, color, label):
    """Draws points, and over them a thick line, their running mean."""
    steps, values = zip(*points)
    panel.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
    panel.plot(steps, smooth(values), color=color, linewidth=2, label=label)


def put_legend(panel, lines):
    """Puts the legend in a row above the panel, where it covers nothing."""
    names = [line.get_label() for line in lines]
    place = dict(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    panel.legend(lines, names, ncol=len(lines), frameon=False, fontsize="small", **place)


def draw_loss(panel, task, state, scalars):
    """Draws the loss of each step, and on a second axis the dev score of each evaluation."""
    draw_curve(panel, scalars["loss"], LOSS, "training loss")
    panel.set_ylabel("loss", color=LOSS)
    panel.set_ylim(0, None)
    lines, points = panel.get_lines()[1:], score_points(task, scalars)
    if points:
        second = panel.twinx()
        name = "dev " + task.score_name
        lines += second.plot(*zip(*points), color=METRIC, marker="o", label=name)
        best = state.best_evaluation()  # The curves may end before it.
        point = (best["global_step"], metrics.score(task, best))
        second.plot(*point, marker="o", markersize=12, color=METRIC, fillstyle="none")
        second.set_ylabel(name + " (circled: best)", color=METRIC)
        values = [value for _, value in points] + [point[1]]
        low, high = np.nanmin(values), np.nanmax(values)
        room = max(0.2 * (high - low), 0.01)  # A change of 0.001 should not look like a slope.
        second.set_ylim(low - room, min(high + room, max(high, 1.0) + 0.2 * room))
        second.locator_params(axis="y", nbins=6)
    put_legend(panel, lines)


def draw_replacing(panel, num_modules, scalars):
    """Draws the replacing rate, and the share of the modules replaced in each step."""
    share = [(step, count / num_modules) for step, count in scalars["modules_replaced"]]
    draw_curve(panel, share, REPLACED, "replaced of %d modules" % num_modules)
    panel.plot(*zip(*scalars["replacing_rate"]), color=RATE, linewidth=2, label="replacing rate")
    panel.set_ylabel("share of the modules")
    panel.set_ylim(-0.05, 1.05)
    put_legend(panel, panel.get_lines()[1:])


def draw(plt, runs, path):
    """Draws runs, a dict from a name to what `read_run` returns, side by side."""
    has_rates = any("replacing_rate" in scalars for _, _, scalars in runs.values())
    figure = plt.figure(figsize=(7 * len(runs), 6 if has_rates else 4))
    grid = figure.add_gridspec(1 + has_rates, len(runs), height_ratios=[3, 2][: 1 + has_rates])
    for column, (name, (run_config, state, scalars)) in enumerate(runs.items()):
        is_replacing = "replacing_rate" in scalars
        panel = figure.add_subplot(grid[0, column] if is_replacing else grid[:, column])
        draw_loss(panel, tasks.recorded(run_config), state, scalars)
        panel.set_title("%s: %s" % (name, run_config["stage"]), loc="left")
        if is_replacing:
            panel.tick_params(labelbottom=False)
            panel.grid(alpha=0.3)
            panel = figure.add_subplot(grid[1, column], sharex=panel)
            draw_replacing(panel, run_config["suc_layers"], scalars)
        panel.set_xlabel("steps")
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", help="output folders of stages, such as out_1")
    parser.add_argument("--output", help="PNG file to write; default: run.png in the first folder")
    arguments = parser.parse_args()
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit("plot_run.py: needs matplotlib; pip install matplotlib")
    set_up_tensorflow()
    output = arguments.output or os.path.join(arguments.folders[0], "run.png")
    try:
        draw(plt, {path: read_run(path) for path in arguments.folders}, output)
    except UserError as error:
        sys.exit("plot_run.py: %s" % error)
    except OSError as error:
        sys.exit("plot_run.py: %s: cannot be written: %s" % (output, error.strerror))
    print(output)


if __name__ == "__main__":
    main()
