"""Collects trained stages into report.md, report.json and two plots.

    python scripts/report.py out_tables [more folders ...] [--output=FOLDER]

It reports every run of this program in and below the given folders, whether a script of the tables
or a command made it, and reads nothing else. The output goes to the first folder. A damaged run is
named and left out. The plots need matplotlib.

"dev" is the score of the checkpoint that the run keeps: the best on dev, or with
--select_checkpoint=last the last one. "retained" is the share of the score of the nearest finished
predecessor, on dev and on the first evaluated file. If several predecessors are equally near, the
one of the same seed counts, then the best. The number after ± is half the width of the 95 %
interval of the mean over the seeds (Student's t).

The baseline is a folder `direct` or `subset_N` (N layers), as scripts/tables/controls.sh and
comparison.sh make them. Each folder beside it is compared with it, seed by seed: the mean of the
differences of finished runs, with the same interval.
"""

import argparse
import collections
import functools
import itertools
import math
import os
import statistics
import sys

import scipy.stats

from theseus import records
from theseus.errors import UserError
from theseus.inference import metrics
from theseus.inputs import tasks
from theseus.runs import files
from theseus.runs.stage_folder import StageFolder
from theseus.stage import SUCCESSOR_STARTS, layer_numbers

# Source: the published project's README; LCQMC, learning rate 2e-5, batches of 64, single runs.
# (layers, epochs of stage 1, epochs of stage 2): (accuracy, accuracy on business data).
PUBLISHED = {
    (6, 10, 0): (0.8612, None),
    (6, 10, 4): (0.86, 0.53435),
    (6, 4, 0): (0.83, None),
    (6, 3, 0): (0.85536, None),
    (2, 10, 0): (0.78584, None),
    (2, 10, 2): (0.82528, None),
    (2, 10, 1): (0.81032, None),
    (2, 10, 3): (0.82424, 0.7595),
    (2, 4, 0): (0.76512, None),
}

Run = collections.namedtuple(
    "Run",
    "path stage layers method epochs examples seed metric dev_data score evaluations files auc "
    "steps seconds parameters milliseconds is_finished",
)
"""A trained stage, as its folder describes it.

Fields:
  path: str, relative to the folder that was given.
  stage: str; layers: int, of the evaluated model; epochs: tuple, of stage 1 and stage 2.
  examples: int, the number of sampled examples (--max_train_examples); None: all.
  method: str, the name of the method and its settings, as from `describe_method`.
  seed: int; metric: str, the name of the score; dev_data: str, the hash of the dev data.
  score: float, of the kept checkpoint on dev.
  evaluations: list of [step, score on dev].
  files: dict from an evaluated file, by its folder and name, to its score.
  auc: dict from the same files to the area under the ROC curve, if there is one and it is not the
    score: on another domain the score depends on a threshold that may not fit.
  steps: int; seconds: float, of the training.
  parameters: int, of the evaluated model.
  milliseconds: float, for an example, as measured by --do_eval; or None.
  is_finished: bool, whether the training is.
"""

# The parts of a run config that are read here; every training writes them.
_RUN_CONFIG = records.table(
    {
        "num_train_epochs": records.number(0),
        "seed": records.whole(),
        "train_scope": records.text(),
        "replace_rate_prob": records.nullable(records.number(0, 1)),
        "replace_linear_k": records.nullable(records.number()),
        "bert_config": records.mapping(records.anything),
    },
    others=True,
)

CONTROLS = ("direct", "subset_%d")
"""The baselines' folders in scripts/tables: the fine-tuned subset, in one script by its depth."""


def find_runs(root):
    """Yields the absolute path of each stage's folder in and below `root`."""
    for folder, names, held in os.walk(os.path.abspath(root)):
        names.sort()
        if "run.json" in held and "state.json" in held:
            yield folder


def read_runs(folders):
    """Returns (the Runs of folders, list; the folder that their paths are relative to).

    Damaged runs are reported on standard error.

    Raises:
      UserError: there is no such folder, or no run.
    """
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError("%s: there is no such folder" % folder)
    places = collections.OrderedDict()
    for path in itertools.chain.from_iterable(map(find_runs, folders)):
        places.setdefault(os.path.realpath(path), path)
    paths = list(places.values())
    root = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    root = os.path.dirname(root) if root in paths else root
    runs = []
    for path in paths:
        try:
            if StageFolder(path).state().best:
                runs.append(read_run(path, root))
        except UserError as error:
            print("report.py: skipped: %s" % error, file=sys.stderr)
    if not runs:
        raise UserError("%s: holds no trained stage" % ", ".join(folders))
    return runs, root


def read_run(path, root):
    """Returns the Run of a stage's folder.

    Args:
      path: the folder.
      root: the folder that its name is relative to.
    """
    folder = StageFolder(path)
    run, state = folder.trained_run_config(), folder.state()
    try:
        _RUN_CONFIG(run, "")
    except ValueError as error:
        raise UserError("%s: is damaged: %s" % (folder.file("run.json"), error))
    task = tasks.recorded(run)
    evaluated = _evaluated(folder, task)
    return Run(
        path=os.path.relpath(path, root),
        stage=run["stage"],
        layers=run["suc_layers"] or run["bert_config"]["num_hidden_layers"],
        method=describe_method(run, folder.paths())
        + ("" if state.is_finished else ", not finished"),
        epochs=_epochs(run),
        examples=run.get("max_train_examples"),
        seed=run["seed"],
        metric=task.score_name,
        dev_data=run.get("dev_data"),
        score=metrics.score(task, state.best_evaluation()),
        evaluations=[[v["global_step"], metrics.score(task, v)] for v in state.evaluations],
        files={name: metrics.score(task, values) for name, values in evaluated.items()},
        auc={
            name: values["auc"]
            for name, values in evaluated.items()
            if task.score_name != "auc" and values.get("auc") is not None
        },
        steps=(state.last or state.best).global_step,
        seconds=state.train_seconds,
        parameters=count_parameters(run),
        milliseconds=_milliseconds(folder),
        is_finished=state.is_finished,
    )


def _evaluated(folder, task):
    """Returns a dict from each file that --do_eval evaluated besides dev to its metrics, a dict."""
    number = records.nullable(records.number())
    of_file = records.table({name: number for name in task.metrics}, {"auc": number}, others=True)
    kind = records.table({}, {"eval_files": records.mapping(of_file)}, others=True)
    results = records.read_if_there(folder.file("eval_results.json"), kind) or {}
    return {
        files.short_name(name): values for name, values in results.get("eval_files", {}).items()
    }


def _milliseconds(folder):
    """Returns the milliseconds that --do_eval took for an example, float, or None."""
    kind = records.table({}, {"eval_examples_per_second": records.number(1e-9)}, others=True)
    timing = records.read_if_there(folder.file("timing.json"), kind) or {}
    speed = timing.get("eval_examples_per_second")
    return 1000 / speed if speed else None


def _epochs(run):
    """Returns (epochs of stage 1, epochs of stage 2); one of them is 0."""
    epochs = run["num_train_epochs"]
    return (epochs, 0) if run["stage"] == "replacing" else (0, epochs)


def method_name(run, paths):
    """Returns the name of a run's method, str; see `describe_method`."""
    teacher = run.get("distill_from")
    if run["stage"] == "predecessor":
        return "predecessor, trained on" if run.get("classifier_rows") else "predecessor"
    if run["stage"] == "successor" and "init_checkpoint" in paths:  # It skipped stage 1.
        return "distilled subset" if teacher else "fine-tuned subset"
    name = "replacing, then stage 2" if paths else "stage 2"  # Old runs have no paths.
    name = "replacing" if run["stage"] == "replacing" else name
    return name + (", distilled" if teacher else "")


def describe_method(run, paths):
    """Returns a run's method and settings in words, str, by its run config and RunFolder.paths."""
    words = [method_name(run, paths)]
    if run["stage"] == "predecessor":
        return words[0]
    if run["stage"] == "replacing":
        linear = run["replace_linear_k"] or run.get("replace_until")
        words.append("linear rate" if linear else "rate %g" % run["replace_rate_prob"])
    if run.get("classifier_rows", True) is None:
        words.append("new classifier")
    if run["train_scope"] == "successor_layers":
        words.append("train scope successor_layers")
    if run.get("suc_init"):
        is_named = run["suc_init"] in SUCCESSOR_STARTS or layer_numbers(run["suc_init"])
        words.append("%s start" % (run["suc_init"] if is_named else "another BERT's layers as"))
    if run.get("suc_learning_rate") is not None:
        words.append("successor's learning rate %g" % run["suc_learning_rate"])
    if run.get("distill_from"):
        settings = run["distill_temperature"], run["distill_weight"]
        words.append("temperature %g, weight %g" % settings)
    if run.get("unlabelled_data"):
        words.append("with unlabelled texts")
    if run.get("ema_decay"):
        words.append("averaged weights")
    if run.get("select_checkpoint") == "last":
        words.append("last checkpoint")
    return ", ".join(words)


def count_parameters(run):
    """Returns the number of parameters of the evaluated model, int, from the BERT's shape."""
    config = run["bert_config"]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tables = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
    layers = run["suc_layers"] or config["num_hidden_layers"]
    num_outputs = tasks.recorded(run).num_outputs
    pooler, classifier = hidden * hidden + hidden, num_outputs * (hidden + 1)
    return tables * hidden + 2 * hidden + layers * layer + pooler + classifier


# --- The tables ---


def groups_of(runs):
    """Returns an OrderedDict from (stage, layers, method, epochs, folder without seed) to Runs."""
    found = collections.OrderedDict()
    for run in runs:
        parts = [part for part in run.path.split(os.sep) if not part.startswith("seed_")]
        key = (run.stage, run.layers, run.method, run.epochs, "/".join(parts))
        found.setdefault(key, []).append(run)
    return found


def group_milliseconds(group):
    """Returns the median milliseconds of the Runs for an example, float; None if none was timed."""
    found = [run.milliseconds for run in group if run.milliseconds]
    return statistics.median(found) if found else None


def cell(values, form="%.4f"):
    """Returns a cell for a list of float: the mean, and if there are several, ± the interval."""
    if not values:
        return ""
    mean = form % statistics.mean(values)
    return mean if len(values) == 1 else "%s ± %.4f" % (mean, interval(values))


def interval(values):
    """Returns half the width of the 95 % interval of the mean of two or more values, float.

    Source: Student's t distribution; the values are taken as independent and normal.
    """
    quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def predecessors_of(runs, like):
    """Returns the predecessors, list of Run, that a Run is compared with; none with a score of 0.

    Candidates are finished and have the same metric and dev data. Those whose folders share most of
    the Run's path count: the best one of the same seed, or all if none has that seed.
    """
    known = [
        run
        for run in runs
        if run.stage == "predecessor" and run.is_finished and run.score > 0
        if (run.metric, run.dev_data) == (like.metric, like.dev_data)
    ]
    places = [(_num_shared(run.path, like.path), run.seed == like.seed) for run in known]
    nearest = [run for run, place in zip(known, places) if place == max(places)]
    of_seed = [run for run in nearest if run.seed == like.seed]
    return [max(of_seed, key=lambda run: run.score)] if of_seed else nearest


def _num_shared(path, other):
    """Returns the number of leading folders that two paths share, int."""
    return len(os.path.commonprefix([path.split(os.sep), other.split(os.sep)]))


def shares_retained(runs, group, measure):
    """Returns the shares of their predecessors' scores that Runs retain, list of float.

    Args:
      runs: list of all Runs.
      group: list of the Runs in question.
      measure: function from a Run to a score or None.
    """
    shares = []
    for run in group:
        wholes = not_none(measure(whole) for whole in predecessors_of(runs, run))
        if wholes and measure(run) is not None:
            shares.append(measure(run) / statistics.mean(wholes))
    return shares


def retained_cell(shares):
    """Returns a cell for shares, list of float, in percent."""
    if not shares:
        return ""
    percent = [100 * share for share in shares]
    mean = "%.1f%%" % statistics.mean(percent)
    return mean if len(shares) == 1 else "%s ± %.1f" % (mean, interval(percent))


def format_report(runs, root):
    """Returns the report's text, in Markdown.

    Args:
      runs: list of Run, at least one.
      root: the folder that their paths are relative to.
    """
    measures = measures_of(runs)
    header = ["folder", "layers", "method", "epochs", "seeds"]
    has_metrics = len({run.metric for run in runs}) > 1
    header += (["metric"] if has_metrics else []) + ["dev"]
    scores = [("dev", lambda run: run.score)] + measures[:1]
    columns = [title for title, _ in measures]
    header += columns + ["%s retained" % title for title, _ in scores]
    header += ["parameters", "steps", "seconds", "ms an example"]
    rows = []
    for (_, layers, method, epochs, folder), group in groups_of(runs).items():
        row = [folder, str(layers), method, "%g + %g" % epochs, str(len(group))]
        row += [group[0].metric] if has_metrics else []
        row += [cell([run.score for run in group])]
        row += [cell(not_none(measure(run) for run in group)) for _, measure in measures]
        row += [retained_cell(shares_retained(runs, group, measure)) for _, measure in scores]
        steps = statistics.mean([run.steps for run in group])
        seconds = statistics.mean([run.seconds for run in group])
        row += ["{:,}".format(group[0].parameters), "%d" % steps, "%d" % seconds]
        latency = group_milliseconds(group)
        rows.append(row + ["%.2f" % latency if latency else ""])
    parts = ["# Report", metrics.markdown_table(header, rows)]
    parts += ["## Dev by epoch", metrics.markdown_table(*evaluation_rows(runs))]
    differences = difference_rows(runs, [measure for _, measure in measures])
    if differences:
        header = ["folder", "method", "baseline's folder", "seeds", "dev"] + columns
        parts += ["## Compared with the baseline", metrics.markdown_table(header, differences)]
        parts.append(
            "Mean difference from the fine-tuned subset, seed by seed, ± half its 95 % interval."
        )
    published = published_rows(runs, root)
    if published:
        header = ["folder", "layers", "stage 1", "stage 2"] + 2 * ["published", "here"]
        parts += ["## The published table", "Accuracy on dev, then on business data."]
        parts.append(metrics.markdown_table(header, published))
    return "\n\n".join(parts) + "\n"


def evaluation_rows(runs):
    """Returns (header, rows) of the dev score after each epoch, and the best, of each Run."""
    rows = [[run.path, str(run.seed)] + evaluation_cells(run.evaluations) for run in runs]
    return ["folder", "seed", "dev by epoch", "best"], rows


def evaluation_cells(evaluations):
    """Returns the cells of a list of [step, score]: all scores, and the best; at least one."""
    scores = [score for _, score in evaluations]
    shown = " ".join(("%.4f" % score).lstrip("0") for score in scores)
    return [shown, "%.4f" % max(scores)]


def measures_of(runs):
    """Returns (title, function from a Run to float or None) of each column of evaluated files."""
    found = []
    for field, ending in (("files", ""), ("auc", " AUC")):
        names = collections.OrderedDict(
            (name, None) for run in runs for name in getattr(run, field)
        )
        for name in names:
            measure = functools.partial(_of_file, field, name)
            found.append((name + ending, measure))
    return found


def _of_file(field, name, run):
    return getattr(run, field).get(name)


def not_none(values):
    """Returns the list of the values that are not None."""
    return [value for value in values if value is not None]


def difference_rows(runs, measures):
    """Returns a row for each folder with a baseline: how much better it is, seed by seed.

    Only finished runs with the same metric and dev data are compared.

    Args:
      runs: list of Run.
      measures: list of functions from a Run to another number to compare, or None.
    """
    groups, rows = collections.OrderedDict(), []
    for key, group in groups_of(runs).items():
        groups.setdefault(key[-1], []).extend(group)
    for folder, group in groups.items():
        place = find_control(folder, groups, group[0].layers)
        control = {_comparable(run): run for run in groups.get(place, []) if run.is_finished}
        finished = [run for run in group if run.is_finished and _comparable(run) in control]
        pairs = [(run, control[_comparable(run)]) for run in finished]
        if not pairs:
            continue
        scores = [[run.score - other.score for run, other in pairs]]
        for measure in measures:
            both = [(measure(run), measure(other)) for run, other in pairs]
            scores.append([ours - theirs for ours, theirs in both if None not in (ours, theirs)])
        row = [folder, group[0].method, place, str(len(pairs))]
        rows.append(row + [cell(v, "%+.4f") for v in scores])
    return rows


def _comparable(run):
    """Returns a key that is equal for two Runs whose scores may be subtracted."""
    return run.seed, run.metric, run.dev_data


def find_control(folder, folders, layers):
    """Returns the nearest of `folders` that is a baseline (`CONTROLS`) for a folder, or None."""
    names = [name % layers if "%" in name else name for name in CONTROLS]
    above = folder.split("/")
    while above:
        above = above[:-1]
        for name in names:
            control = "/".join(above + [name])
            if control in folders:
                return control if control != folder else None
    return None


def published_rows(runs, root):
    """Returns a row for each published result for which a folder `published` has runs.

    Args:
      runs: list of Run.
      root: the folder that their paths are relative to.
    """
    found, by_place = {}, {}
    for run in runs:
        place = os.path.join(root, run.path)
        by_place[place] = run
        above, is_published, below = place.rpartition(os.sep + "published" + os.sep)
        if is_published and run.stage != "predecessor":
            # The name of a stage 2's folder begins with its stage 1's.
            is_first = run.stage == "replacing"
            first = run if is_first else by_place.get(place.rsplit("_", 1)[0])
            key = (os.path.relpath(above, root), _published_key(below))
            found.setdefault(key, []).append((run, first))
    rows = []
    for folder in sorted({folder for folder, _ in found}):
        for key, (accuracy, business) in PUBLISHED.items():
            group = found.get((folder, key))
            if group:
                ours = [score for run, _ in group for score in _business(run)]
                row = [folder] + ["%d" % number for number in key] + ["%g" % accuracy]
                row += [cell([run.score for run, _ in group]) + _scaled(key, *group[0])]
                rows.append(row + ["%g" % business if business else "", cell(ours)])
    return rows


def _published_key(path):
    """Returns the key in PUBLISHED for the name of a run's folder."""
    name = os.path.basename(path)
    numbers = [2, 4] if name == "out_1_3" else [int(n) for n in name.split("_") if n.isdigit()]
    return tuple((numbers + [0])[:3])


def _business(run):
    """Returns a list with the score on business data, which the scripts evaluate after test."""
    names = list(run.files)
    is_test = len(names) == 1 and os.path.splitext(os.path.basename(names[0]))[0] == "test"
    return [] if is_test or not names else [run.files[names[-1]]]


def _scaled(key, run, first):
    """Returns a cell's note if a Run was trained on fewer examples or for other epochs; or "".

    Args:
      key: tuple, the key in PUBLISHED.
      run: a Run.
      first: the Run of its stage 1, which may be the same Run; None if it is not known.
    """
    stages = [(1, key[1], first.epochs[0])] if first else []
    stages.append((2, key[2], run.epochs[1]))
    notes = ["stage %d: %g epochs" % (n, ours) for n, theirs, ours in stages if ours != theirs]
    notes += ["%d examples" % run.examples] if run.examples else []
    return " (%s)" % ", ".join(notes) if notes else ""


# --- The plots ---


def draw(runs, output):
    """Draws the score of each method by depth, and the scores on dev by step.

    A point is the mean of the seeds, its bar the 95 % interval. The curves of one method's seeds
    have the same color.

    Args:
      runs: list of Run.
      output: the folder for scores.png and curves.png.
    """
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    groups = [
        (plt.get_cmap("tab20")(number % 20), key, group)
        for number, (key, group) in enumerate(groups_of(runs).items())
    ]
    for name, draw_groups in (("scores", _draw_scores), ("curves", _draw_curves)):
        figure, panel = plt.subplots(figsize=(7, 4.5))
        draw_groups(panel, groups)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
        figure.savefig(os.path.join(output, name + ".png"), dpi=130, bbox_inches="tight")


def _draw_scores(panel, groups):
    for color, (_, layers, method, _, folder), group in groups:
        values = [run.score for run in group]
        bar = interval(values) if len(values) > 1 else 0
        label = "%d: %s (%s)" % (layers, method, folder)
        mean = statistics.mean(values)
        panel.errorbar(layers, mean, bar, fmt="o", ms=4, capsize=2, label=label, color=color)
    panel.set_xlabel("layers")
    panel.set_ylabel("score on dev")


def _draw_curves(panel, groups):
    for color, (_, layers, method, _, folder), group in groups:
        for number, run in enumerate(group):
            # One entry of the legend for all seeds.
            label = None if number else "%d: %s (%s)" % (layers, method, folder)
            panel.plot(*zip(*run.evaluations), marker=".", linewidth=1, color=color, label=label)
    panel.set_xlabel("step of the stage")
    panel.set_ylabel("score on dev")


def _to_json(run):
    """Returns a Run as a dict of JSON values; an undefined score is None."""
    scores = {name: metrics.or_none(score) for name, score in run.files.items()}
    evaluations = [[step, metrics.or_none(score)] for step, score in run.evaluations]
    score = metrics.or_none(run.score)
    return dict(run._asdict(), files=scores, evaluations=evaluations, score=score)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folders", nargs="+", help="folders that are searched for stages' output folders"
    )
    parser.add_argument("--output", help="folder for the report; default: the first one")
    arguments = parser.parse_args()
    output = arguments.output or arguments.folders[0]
    try:
        runs, root = read_runs(arguments.folders)
        os.makedirs(output, exist_ok=True)
        files.write_text(os.path.join(output, "report.md"), format_report(runs, root))
        report = [_to_json(run) for run in runs]
        files.write_json(os.path.join(output, "report.json"), report)
    except UserError as error:
        sys.exit("report.py: %s" % error)
    try:
        draw(runs, output)
    except ImportError:
        print("report.py: no plots without matplotlib; pip install matplotlib", file=sys.stderr)
    print(os.path.join(output, "report.md"))


if __name__ == "__main__":
    main()
