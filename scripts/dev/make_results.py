"""Writes the tables and the figure of the results pages from the JSON files in docs/results.

    python scripts/dev/make_results.py

In a page, a table is between <!-- table: NAME --> and <!-- end -->; NAME is one of `TABLES`. The
JSON files are copies of report.json, which scripts/report.py writes; unfinished runs are left out.
The figure contains the SHA-256 of its data, so that a test notices an outdated figure. It needs
matplotlib.
"""

import collections
import functools
import io
import json
import os
import re
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT, os.path.join(ROOT, "scripts")]

import report  # noqa: E402
from theseus.inference import metrics  # noqa: E402
from theseus.runs import files  # noqa: E402

RESULTS = os.path.join(ROOT, "docs", "results")
PAGES = [os.path.join(ROOT, "docs", "results.md"), os.path.join(ROOT, "docs", "ablations.md")]
MAIN = "lcqmc_384.json"
FIGURE = os.path.join(RESULTS, "lcqmc_384.png")

METHODS = collections.OrderedDict(
    [
        ("predecessor", "predecessor"),
        ("trained_on", "predecessor, trained on"),
        ("subset", "fine-tuned subset"),
        ("pretrained", "the same, of the pretrained BERT"),
        ("short", "the same, 2 epochs"),
        ("restarted", "the same, schedule restarted after 3 of 5 epochs"),
        ("layers", "the same, embeddings and classifier frozen"),
        ("pretrained_short", "fine-tuned subset, from pretrained"),
        ("replacing", "replacing, then stage 2"),
        ("published", "replacing, from pretrained"),
        ("once", "replacing as in the paper's code"),
        ("distilled", "distilled subset"),
        ("spread_distilled", "distilled subset, spread start"),
        ("unlabelled", "the same, with pairs without labels"),
    ]
)
"""The names of the methods in the pages, by their folders in scripts/tables/comparison.sh."""


def read(name):
    """Returns the finished runs of a JSON file in docs/results, list of dict."""
    with io.open(os.path.join(RESULTS, name), encoding="utf-8") as reader:
        return [run for run in json.load(reader) if run.get("is_finished") is not False]


def last(run):
    """Returns a run's score on dev after its last epoch, float."""
    return run["last"] if "last" in run else run["evaluations"][-1][1]


def of_file(run, field, ending):
    """Returns a run's score or AUC on the file whose path has that ending, or None."""
    return next((v for name, v in run.get(field, {}).items() if name.endswith(ending)), None)


# --- The main table ---


def methods_of(runs):
    """Returns an OrderedDict from (layers, method) to its runs by seed, in the pages' order."""
    found = collections.defaultdict(dict)
    for run in runs:
        parts = run["path"].split("/")
        if parts[-1] != "stage_1":
            name = re.sub("_[0-9]+$", "", parts[1])
            found[run["layers"], name][run["seed"]] = run
    order = list(METHODS)
    keys = sorted(found, key=lambda key: (-key[0], order.index(key[1])))
    return collections.OrderedDict((key, found[key]) for key in keys)


def steps_of(runs):
    """Returns the steps of each run by its path, those of its stage 1 included, a dict."""
    own, found = {run["path"]: run["steps"] for run in runs}, {}
    for path, steps in own.items():
        before = path[:-1] + "1" if path.endswith("/stage_2") else None
        found[path] = steps + own.get(before, 0)
    return found


MEASURES = [
    ("dev", last),
    ("test", functools.partial(of_file, field="files", ending="test.txt")),
    ("test AUC", functools.partial(of_file, field="auc", ending="test.txt")),
    ("business AUC", functools.partial(of_file, field="auc", ending="business/dev.txt")),
]


def method_table(name, least_seeds, most_seeds=99):
    """Returns the table of the methods whose number of seeds is in the range, in Markdown."""
    runs, steps = methods_of(read(name)), steps_of(read(name))
    wholes = runs[12, "predecessor"]
    header = ["layers", "method", "seeds"] + [title for title, _ in MEASURES]
    rows = []
    for (layers, method), by_seed in runs.items():
        if least_seeds <= len(by_seed) <= most_seeds:
            row = [str(layers), METHODS[method], str(len(by_seed))]
            row += [report.cell([get(run) for run in by_seed.values()]) for _, get in MEASURES]
            test = MEASURES[1][1]
            shares = [test(run) / test(wholes[seed]) for seed, run in by_seed.items()]
            row.append(report.retained_cell(shares))
            row.append("%d" % statistics.mean(steps[run["path"]] for run in by_seed.values()))
            rows.append(row)
    return metrics.markdown_table(header + ["retained, test", "steps"], rows)


def epoch_table(name):
    """Returns the table of every method's dev scores by epoch, the means over its seeds."""
    rows = []
    for (layers, method), by_seed in methods_of(read(name)).items():
        by_epoch = zip(*(run["evaluations"] for run in by_seed.values()))
        means = [(of[0][0], statistics.mean(score for _, score in of)) for of in by_epoch]
        cells = report.evaluation_cells(means)
        rows.append([str(layers), METHODS[method], str(len(by_seed))] + cells)
    return metrics.markdown_table(["layers", "method", "seeds", "dev by epoch", "best"], rows)


# --- Differences ---

GAINS = [
    ("training the predecessor on", "trained_on", "predecessor"),
    ("starting from the fine-tuned, not the pretrained BERT", "subset", "pretrained"),
    ("3 more epochs of the subset", "subset", "short"),
    ("one schedule, not one restarted after 3 of 5 epochs", "subset", "restarted"),
    ("training embeddings and classifier too", "subset", "layers"),
    ("replacing before the subset", "replacing", "subset"),
    ("replacing, from pretrained", "published", "pretrained_short"),
    ("distillation and a spread start", "spread_distilled", "subset"),
    ("pairs without labels, distilled", "unlabelled", "spread_distilled"),
]
"""For each gain: its words, and the folders of the method that has it and of the one without."""


def gain_table(name):
    """Returns the table of the differences between methods, paired by seed, from three seeds on."""
    runs, rows = methods_of(read(name)), []
    for layers in sorted({layers for layers, _ in runs}, reverse=True):
        for words, ours, control in GAINS:
            with_it, without = runs.get((layers, ours), {}), runs.get((layers, control), {})
            seeds = sorted(set(with_it).intersection(without))
            if len(seeds) >= 3:
                row = [str(layers), words, str(len(seeds))]
                for _, get in MEASURES[:3]:
                    row.append(
                        points_cell([100 * (get(with_it[s]) - get(without[s])) for s in seeds])
                    )
                rows.append(row)
    header = ["layers", "gain of", "seeds"] + [title for title, _ in MEASURES[:3]]
    return metrics.markdown_table(header, rows)


def points_cell(points):
    """Returns the mean of differences in points, and half its 95 % interval, str."""
    return "%+.2f ± %.2f" % (statistics.mean(points), report.interval(points))


REPLACING = [
    ("LCQMC, 128 wide, 12 to 6, 50,000 pairs", "report.json", "6_layers"),
    ("LCQMC, 128 wide, 12 to 2, 50,000 pairs", "report.json", "2_layers"),
    ("LCQMC, 128 wide, 12 to 6, 5,000 pairs", "report_5000_pairs.json", "6_layers"),
    ("LCQMC, 128 wide, 12 to 2, 5,000 pairs", "report_5000_pairs.json", "2_layers"),
    ("MRPC, 384 wide, 6 to 3", "report_mrpc.json", "3_layers"),
    ("RTE, 384 wide, 6 to 3", "report_rte.json", "3_layers"),
]
"""For each comparison: its name in the table, the JSON file, and the folder of its depth."""


def differences(name, place, ours, control="direct"):
    """Returns the differences of two folders' scores on dev after the last epoch, seed by seed."""
    found = {}
    for run in read(name):
        for which in (ours, control):
            if run["path"].endswith("/%s/%s" % (place, which)):
                found[which, run["seed"]] = last(run)
    seeds = sorted(seed for which, seed in found if which == ours and (control, seed) in found)
    return [100 * (found[ours, seed] - found[control, seed]) for seed in seeds]


def difference_table():
    """Returns the table of the differences between replacing and the fine-tuned subset."""
    rows = []
    for what, name, place in REPLACING:
        points = differences(name, place, "replacing_linear/stage_2")
        rows.append([what, str(len(points)), points_cell(points)])
    return metrics.markdown_table(["task", "seeds", "points on dev"], rows)


def list_table(name, folders):
    """Returns a table of single runs by the ends of their paths, in Markdown."""
    rows = []
    for words, ending in folders:
        (run,) = [run for run in read(name) if run["path"].endswith(ending)]
        auc = of_file(run, "auc", "business.txt")
        rows.append([words, "%.4f" % last(run), "" if auc is None else "%.3f" % auc])
    header = ["", "dev, last epoch", "business AUC"]
    has_auc = any(row[2] for row in rows)
    return metrics.markdown_table(*((header, rows) if has_auc else drop_last(header, rows)))


def drop_last(header, rows):
    """Returns a header and rows without their last column."""
    return header[:-1], [row[:-1] for row in rows]


def _wide(folder, run, layers=2):
    return "out_384_%s/controls/seed_1/%d_layers/%s" % (folder, layers, run)


WIDE = [
    ("predecessor, 3 epochs", "out_384_1e-4/controls/seed_1/predecessor"),
    ("6 layers: subset", _wide("1e-4", "direct", 6)),
    ("6 layers: replacing, then stage 2", _wide("1e-4", "replacing_linear/stage_2", 6)),
    ("6 layers: the same, distilled", _wide("1e-4", "replacing_distilled/stage_2", 6)),
    ("2 layers: subset", _wide("3e-4", "direct")),
    ("2 layers: subset, spread start", _wide("spread", "direct")),
    ("2 layers: distilled subset", _wide("3e-4", "distilled")),
    ("2 layers: distilled subset, spread start", _wide("spread", "distilled")),
    ("2 layers: the same, 10 epochs", _wide("spread_10", "distilled")),
    ("2 layers: replacing, then stage 2", _wide("3e-4", "replacing_linear/stage_2")),
    ("2 layers: replacing, the paper's scope", _wide("3e-4", "replacing_layers/stage_2")),
    ("2 layers: replacing, distilled", _wide("3e-4", "replacing_distilled/stage_2")),
    ("2 layers: replacing, a rate of its own", _wide("own", "replacing_linear/stage_2")),
    ("2 layers: the same, distilled", _wide("own", "replacing_distilled/stage_2")),
    ("2 layers: the same, spread start", _wide("own_spread", "replacing_distilled/stage_2")),
]
NARROW = [
    ("subset of the predecessor", "1e-4/controls/seed_1/2_layers/direct"),
    ("subset of the pretrained BERT", "2_layers/direct_pretrained"),
    ("distilled subset", "1e-4/controls/seed_1/2_layers/distilled"),
    ("replacing, linear rate", "1e-4/controls/seed_1/2_layers/replacing_linear/stage_2"),
    ("replacing, constant rate 0.5", "2_layers/replacing/stage_2"),
    ("replacing, linear, the paper's scope", "2_layers/replacing_layers/stage_2"),
]
INGREDIENTS = [
    ("base: replacing, linear, distilled", "2_layers/base/stage_2"),
    ("spread start (layers 0 and 11)", "2_layers/start_spread/stage_2"),
    ("by way of 6 layers", "2_layers/stepwise/stage_2"),
    ("rate 1 after 30 % of the steps, not 80 %", "2_layers/early/stage_2"),
    ("averaged weights (`--ema_decay=0.999`)", "2_layers/averaged/stage_2"),
    ("`--suc_learning_rate=5e-4`", "2_layers/own_rate/stage_2"),
    ("last layers as the start (10 and 11)", "2_layers/start_last/stage_2"),
]

TABLES = {
    "methods": lambda: method_table(MAIN, 3),
    "methods_of_fewer_seeds": lambda: method_table(MAIN, 1, 2),
    "epochs": lambda: epoch_table(MAIN),
    "gains": lambda: gain_table(MAIN),
    "replacing": difference_table,
    "wide": lambda: list_table("report_384_wide.json", WIDE),
    "narrow": lambda: list_table("report_rates.json", NARROW),
    "ingredients": lambda: list_table("report_recipes.json", INGREDIENTS),
}
"""A function without arguments for each table, by its name."""


def filled(page):
    """Returns a page's text, str, with its tables made anew from the files."""
    pattern = r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda m: m[1] + "\n" + TABLES[m[2]]() + "\n\n" + m[3], page, flags=re.S)


def draw(path):
    """Draws the test accuracy by depth of the methods with three seeds, a line for each method."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    figure, panel = plt.subplots(figsize=(7, 4))
    lines = collections.OrderedDict()
    for (layers, method), by_seed in methods_of(read(MAIN)).items():
        values = [100 * MEASURES[1][1](run) for run in by_seed.values()]
        if len(values) >= 3:
            point = layers, statistics.mean(values), report.interval(values)
            lines.setdefault(method, []).append(point)
    for place, (method, points) in enumerate(lines.items()):
        depths, means, bars = zip(*points)
        beside = [depth + 0.1 * place for depth in depths]  # So that no bar hides another.
        panel.errorbar(beside, means, bars, fmt="o-", ms=4, capsize=3, label=METHODS[method])
    panel.set_xticks([12, 6, 4, 3, 2])
    panel.set_xlabel("layers")
    panel.set_ylabel("accuracy on test, percent (bars: 95 % interval)")
    panel.legend(fontsize=7)
    panel.grid(alpha=0.3)
    source = files.hash_files([os.path.join(RESULTS, MAIN)])
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata={"Source": source})


def main():
    """Rewrites the tables of all pages, and the figure."""
    for path in PAGES:
        with io.open(path, encoding="utf-8") as reader:
            page = reader.read()
        with io.open(path, "w", encoding="utf-8") as writer:
            writer.write(filled(page))
    draw(FIGURE)


if __name__ == "__main__":
    main()
