"""Measures the mixtures of a stage 1 that kept its predecessor: score on dev against latency.

    python scripts/frontier.py out_1 [--data_dir=data/sample] [--max_milliseconds=5]

Each of the M modules is either the predecessor's or the successor's, so there are 2^M mixtures,
here called paths. If there are at most --max_paths, all are scored on dev. Otherwise two greedy
searches choose paths: one starts from the predecessor and replaces the module that costs least, the
other starts from the successor and puts back the module that gains most. The latency of a batch
depends only on the number of layers; it is measured for one path of each number, in turns. The
front consists of the Pareto-optimal paths. Only these are scored on --test_file, which selects
nothing.

It prints the front and the cost of replacing each module, and writes frontier.json and, with
matplotlib, frontier.png into the stage's folder.
"""

import collections
import contextlib
import itertools
import sys
import time

import numpy as np
from absl import app, flags
from tqdm import tqdm

from theseus.errors import UserError
from theseus.quiet import quiet_tensorflow

with quiet_tensorflow():
    import modeling_theseus
    from theseus import stage as stages
    from theseus.checkpoints import pretrained
    from theseus.inference import evaluation, metrics, model_folder, trained_model
    from theseus.inputs import batches, encoding, reading, sources, tasks, tokenizer_settings
    from theseus.runs import files
    from theseus.session import set_up_tensorflow

FLAGS = flags.FLAGS

Point = collections.namedtuple("Point", "path layers milliseconds dev test")
"""A path: its digits, number of layers, median time of a batch, and scores (test may be None)."""


class Scores(object):
    """The scores of paths on a labelled file; each is computed only once."""

    def __init__(self, runner, task, encoded):
        """Takes the runner of trained_model.load_all_paths, the Task, and EncodedExamples."""
        self._runner, self._task, self._encoded = runner, task, encoded
        self.found = {}

    def __call__(self, path):
        """Returns the score of a path, a tuple of bool; see metrics.score."""
        if path not in self.found:
            values, _ = evaluation.evaluate(
                self._task,
                self._runner(path),
                self._encoded,
                FLAGS.eval_batch_size,
                "path " + stages.digits(path),
            )
            self.found[path] = metrics.score(self._task, values)
        return self.found[path]


# --- Which paths ---


def flipped(path, index):
    """Returns a path with the other choice at one module."""
    return path[:index] + (not path[index],) + path[index + 1 :]


def search(score, num_modules):
    """Scores all paths, or those that the greedy searches from both ends visit."""
    if 2**num_modules <= FLAGS.max_paths:
        for path in itertools.product([False, True], repeat=num_modules):
            score(path)
        return
    for is_replaced in (False, True):
        path = (is_replaced,) * num_modules
        score(path)
        while is_replaced in path:
            left = [index for index in range(num_modules) if path[index] == is_replaced]
            path = max((flipped(path, index) for index in left), key=score)


def find_front(points):
    """Returns the Pareto-optimal Points, the fastest first."""
    front = []
    for point in sorted(points, key=lambda p: (p.milliseconds, -p.dev)):
        if not front or point.dev > front[-1].dev:
            front.append(point)
    return front


def costs(scores, num_modules):
    """Returns the change of the score by replacing each module, a list of (alone, last, mean).

    Args:
      scores: dict from a path to its score.
      num_modules: int.
    """
    found = []
    for index in range(num_modules):
        pairs = [(path, flipped(path, index)) for path in scores if not path[index]]
        changes = {p: scores[other] - scores[p] for p, other in pairs if other in scores}
        alone = changes[(False,) * num_modules]
        last = changes[flipped((True,) * num_modules, index)]
        found.append((alone, last, float(np.mean(list(changes.values())))))
    return found


# --- How fast ---


def milliseconds(folder, paths, encoded):
    """Returns the median milliseconds of a batch on each of the paths, measured in turns."""
    plan = batches.plan_epoch(encoded.lengths, FLAGS.batch_size, 0, 0)
    plan = (plan * FLAGS.num_batches)[: FLAGS.num_batches]
    with contextlib.ExitStack() as stack:
        loading = [trained_model.load(folder, mask=list(path)) for path in paths]
        models = [stack.enter_context(one) for one in loading]
        runs = [evaluation.runner(model.session, model.graph) for model in models]
        seconds = [
            [_seconds(run, encoded.batch(rows)) for run in runs]
            for rows in tqdm(plan + plan, "timing", leave=False, disable=None)
        ]
    return 1000 * np.median(seconds[len(plan) :], axis=0)  # Without the first round.


def _seconds(run, arrays):
    start = time.perf_counter()
    run(arrays)
    return time.perf_counter() - start


def milliseconds_by_layers(folder, paths, groups, encoded):
    """Returns a dict from each number of layers among the paths to the milliseconds of a batch."""
    of_depth = {len(modeling_theseus.layer_names(groups, path)): path for path in sorted(paths)}
    return dict(zip(of_depth, milliseconds(folder, of_depth.values(), encoded)))


# --- What is said ---


def format_front(front, reference, task):
    """Returns the front as a table, str; `reference` is the predecessor's score."""
    name = task.score_name
    lines = [
        "%-*s  layers  ms per batch of %d  dev %s  retained  test %s"
        % (max(7, len(front[0].path)), "mixture", FLAGS.batch_size, name, name)
    ]
    for point in front:
        retained = "%.1f%%" % (100 * point.dev / reference) if reference > 0 else "-"
        test = "-" if point.test is None else "%.4f" % point.test
        lines.append(
            "%-*s  %6d  %*.2f  %*.4f  %8s  %*s"
            % (
                max(7, len(point.path)),
                point.path,
                point.layers,
                len("ms per batch of %d" % FLAGS.batch_size),
                point.milliseconds,
                len("dev " + name),
                point.dev,
                retained,
                len("test " + name),
                test,
            )
        )
    return "\n".join(lines)


def format_costs(found, groups):
    """Returns the costs of replacing each module as a table, str."""
    lines = ["module  layers   replaced alone  replaced last  mean of all pairs"]
    for index, (group, changes) in enumerate(zip(groups, found)):
        layers = "%d-%d" % (group[0], group[-1])
        lines.append("%6d  %-7s  %+14.4f  %+13.4f  %+17.4f" % ((index, layers) + changes))
    return "\n".join(lines)


def draw(plt, path, points, front, task):
    """Draws all Points, and the front as a line, into a PNG."""
    figure, panel = plt.subplots(figsize=(7, 4.5))
    panel.plot(
        [p.milliseconds for p in points], [p.dev for p in points], "o", color="C7", alpha=0.4
    )
    panel.plot([p.milliseconds for p in front], [p.dev for p in front], "o-", color="C0")
    for point in front:
        place = (point.milliseconds, point.dev)
        panel.annotate(point.path, place, (0, 6), textcoords="offset points", fontsize="small")
    panel.set_xlabel("milliseconds per batch of %d" % FLAGS.batch_size)
    panel.set_ylabel("dev " + task.score_name)
    panel.margins(x=0.12, y=0.12)
    panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


# --- All of it ---


def encode(path, task, model, recorded, count=None):
    """Returns the EncodedExamples of a labelled file, or of a sample of `count` of them."""
    form = sources.recorded_options(recorded, path)
    examples = reading.read_examples(path, task, form=form)
    if count is not None:
        examples = reading.sample_examples(examples, count)
    tokenizer = pretrained.make_tokenizer(model, tokenizer_settings.recorded(recorded))
    return encoding.encode_examples(examples, task, tokenizer, recorded["max_seq_length"])


def measure(folder):
    """Returns (Points, front, groups, costs) of a StageFolder."""
    recorded = folder.trained_run_config()
    task = tasks.recorded(recorded)
    model = pretrained.read_model(folder.path, recorded["max_seq_length"])
    dev_file = sources.find_files(FLAGS.data_dir, task, "dev")[0]
    dev = encode(dev_file, task, model, recorded, FLAGS.max_dev_examples)
    test = encode(FLAGS.test_file, task, model, recorded) if FLAGS.test_file else None
    with trained_model.load_all_paths(folder) as (runner, groups):
        scores = Scores(runner, task, dev)
        search(scores, len(groups))
        taken = milliseconds_by_layers(folder, scores.found, groups, dev)

        def point(path):
            layers = len(modeling_theseus.layer_names(groups, path))
            return Point(stages.digits(path), layers, taken[layers], scores(path), None)

        points = [point(path) for path in sorted(scores.found)]
        front = find_front(points)
        if test is not None:
            on_test = Scores(runner, task, test)
            choices = [tuple(digit == "1" for digit in p.path) for p in front]
            front = [p._replace(test=on_test(path)) for p, path in zip(front, choices)]
    return points, front, groups, costs(scores.found, len(groups))


def report(folder, plt):
    """Measures a StageFolder's paths, prints the tables, and writes the files."""
    task = tasks.recorded(folder.trained_run_config())
    points, front, groups, found = measure(folder)
    by_path = {point.path: point for point in points}
    reference = by_path["0" * len(groups)].dev
    print(format_front(front, reference, task))
    print(
        "\n%s\n\nevaluated %d of %d mixtures"
        % (format_costs(found, groups), len(points), 2 ** len(groups))
    )
    names = ("alone", "last", "mean")
    record = dict(
        stage=folder.path,
        batch_size=FLAGS.batch_size,
        groups=groups,
        paths=[point._asdict() for point in points],
        front=[point._asdict() for point in front],
        costs=[dict(zip(names, changes)) for changes in found],
    )
    files.write_json(folder.file("frontier.json"), record)
    if plt:
        draw(plt, folder.file("frontier.png"), points, front, task)
    if FLAGS.max_milliseconds is not None:
        print(choose(front))


def choose(front):
    """Returns a line with the best path within --max_milliseconds."""
    fast = [point for point in front if point.milliseconds <= FLAGS.max_milliseconds]
    if not fast:
        fastest = front[0].milliseconds
        raise UserError(
            "--max_milliseconds: the fastest mixture takes %.2f ms; give a larger value" % fastest
        )
    return "within %g ms: --replaced_modules=%s" % (FLAGS.max_milliseconds, fast[-1].path)


def import_pyplot():
    """Returns matplotlib.pyplot; UserError if it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise UserError("--plot: needs matplotlib; pip install matplotlib, or give --noplot")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def main(argv):
    """Prints the front, and writes frontier.json and frontier.png."""
    set_up_tensorflow()
    try:
        if len(argv) != 2:
            raise UserError("give the output folder of a stage 1, such as out_1")
        plt = import_pyplot() if FLAGS.plot else None
        folder = model_folder.trained_folder(argv[1])
        report(folder, plt)
    except UserError as error:
        sys.exit("frontier.py: %s" % error)


if __name__ == "__main__":
    flags.DEFINE_string(
        "data_dir", "data/sample", "Folder with the dev file that selects the mixtures."
    )
    flags.DEFINE_string(
        "test_file", None, "Labelled file on which the Pareto-optimal mixtures are also scored."
    )
    flags.DEFINE_integer(
        "max_dev_examples", None, "Number of dev examples, sampled at random. Default: all.", 1
    )
    flags.DEFINE_integer(
        "max_paths",
        64,
        "Largest number of mixtures that are all scored; of more, two greedy searches choose.",
        2,
    )
    flags.DEFINE_float("max_milliseconds", None, "Print the best mixture within this latency.", 0.0)
    flags.DEFINE_integer("batch_size", 10, "Number of examples in a timed batch.", 1)
    flags.DEFINE_integer("num_batches", 40, "Number of timed batches.", 1)
    flags.DEFINE_integer("eval_batch_size", 64, "Number of examples in a scored batch.", 1)
    flags.DEFINE_bool("plot", True, "Write frontier.png.")
    app.run(main)
