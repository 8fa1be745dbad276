"""Writes the model card of an export: README.md in the hub's layout, from the recorded facts.

The part between the two lines --- is YAML; each of its values is JSON, which is also YAML. Source
of its keys: https://huggingface.co/docs/hub/model-cards.
"""

import collections
import json
import os

from theseus import machine, records
from theseus import stage as stages
from theseus.export.formats import FORMATS
from theseus.inference import metrics
from theseus.inputs import tokenizer_settings
from theseus.runs import files

# The hub's names of some metrics.
_HUB_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
# Settings of the run that the card lists unless they are null.
_SETTINGS = (
    "train_scope learning_rate suc_learning_rate num_train_epochs train_batch_size "
    "gradient_accumulation_steps warmup_proportion seed precision modules replace_rate_prob "
    "replace_linear_k replace_until steps_for_replacing suc_init distill_temperature "
    "distill_weight ema_decay class_weights label_smoothing max_train_examples select_checkpoint"
).split()
# The values at which a setting has no effect.
_UNUSED = {"gradient_accumulation_steps": 1, "label_smoothing": 0.0, "class_weights": []}
_HERE = """```python
from theseus import Classifier

with Classifier("this_folder") as model:
    print(model.classify([%(texts)s]))
```"""

Facts = collections.namedtuple(
    "Facts", "format plain row graph_row batch_sizes results paths", defaults=({},)
)
"""The facts that a card contains.

Fields:
  format: str, one of formats.FORMATS.
  plain: the exported writers.PlainClassifier.
  row, graph_row: exporter.Row of the export and of the graph that it was made from.
  batch_sizes: tuple of int, the batch sizes of the rows' seconds.
  results: dict, as from `read_results`, or None.
  paths: dict, as from RunFolder.paths.
"""


def read_results(folder, mask, task, best):
    """Returns eval_results.json if it is about the exported checkpoint; otherwise None.

    Args:
      folder: a StageFolder.
      mask: see TrainedModel.
      task: the tasks.Task.
      best: the state.Checkpoint that is exported.

    Raises:
      UserError: the file is damaged.
    """
    scores = {name: records.nullable(records.number()) for name in task.metrics}
    scores["num_examples"] = records.whole(1)
    loyal = {"label_loyalty": records.number(), "probability_loyalty": records.number()}
    compared = records.mapping(records.table(dict(scores, **loyal), others=True))
    more = {"compared": compared}
    of_files = {"eval_files": records.mapping(records.table(scores, more, others=True))}
    named = dict(scores, split=records.text(), checkpoint=records.text())
    kind = records.table(named, dict(more, **of_files), others=True)
    results = records.read_if_there(folder.file(stages.result("eval_results.json", mask)), kind)
    return results if results and results["checkpoint"] == best.checkpoint else None


def text(facts):
    """Returns the card of `Facts`, str."""
    parts = [
        _head(facts),
        "# " + _title(facts),
        _what(facts.plain),
        "## How it was made\n\n" + _how(facts.plain),
        "## Scores\n\n" + _scores(facts),
        "## Speed\n\n" + _speed(facts),
        "## How to use it\n\n" + _use(facts),
        "## Limits\n\n" + _limits(facts.plain),
    ]
    return "\n\n".join(parts)


# --- Its parts ---


def _head(facts):
    task, library = facts.plain.task, FORMATS[facts.format].library
    names = [_HUB_METRICS.get(name, name) for name in task.metrics]
    measured = {
        "type": names[0] if len(names) == 1 else task.score_name,
        "value": metrics.or_none(facts.row.score),
        "name": "dev " + task.score_name,
    }
    result = {
        "task": {"type": "text-classification"},
        "dataset": {"name": _data(facts), "type": _data(facts), "split": "validation"},
        "metrics": [measured],
    }
    values = [
        ("pipeline_tag", "text-classification"),
        ("library_name", library),
        ("tags", ["bert", "bert-of-theseus", "model-compression"]),
        ("metrics", names),
        ("model-index", [{"name": _title(facts), "results": [result]}]),
    ]
    lines = ["%s: %s" % (key, json.dumps(value)) for key, value in values if value != ""]
    return "\n".join(["---"] + lines + ["---"])


def _data(facts):
    """Returns the name of the data: the folder's name for a user's own, else the task's name."""
    task, folder = facts.plain.task, os.path.abspath(facts.paths.get("data_dir", ""))
    is_own = facts.paths.get("data_dir") and (task.takes_columns or task.name == "lcqmc_pair")
    return os.path.basename(folder) if is_own else task.name


def _title(facts):
    shape = facts.plain.config.num_hidden_layers, facts.plain.config.hidden_size
    kind = ", int8" if facts.format.endswith("_int8") else ""
    return "BERT of %d layers, %d wide%s, for %s" % (*shape, kind, _data(facts))


def _what(plain):
    task = plain.task
    texts = "pairs of texts" if task.num_texts == 2 else "texts"
    labels = ", ".join("`%s`" % label for label in task.labels)
    gives = "a number" if task.is_regression else "one of the labels " + labels
    count = sum(array.size for array in plain.weights.values())
    depth = plain.run_config.get("bert_config", {}).get("num_hidden_layers")
    is_smaller = depth and depth != plain.config.num_hidden_layers
    origin = ", compressed from a BERT of %d layers" % depth if is_smaller else ""
    return "Predicts %s for %s. %s parameters%s." % (gives, texts, format(count, ","), origin)


_PAPER = "[arXiv 2002.02925](https://arxiv.org/abs/2002.02925)"
_METHODS = {
    stages.PREDECESSOR.name: "All layers of a BERT were fine-tuned (stage 0).",
    stages.REPLACING.name: "In training, its layers replaced the modules of a deeper BERT at "
    "random, batch by batch\n(stage 1 of BERT-of-Theseus, %s)." % _PAPER,
    stages.SUCCESSOR.name: "Its layers were trained alone (stage 2 of BERT-of-Theseus, %s),\n"
    "from the weights whose SHA-256 is below." % _PAPER,
}


def _how(plain):
    recorded = plain.run_config
    if recorded.get("is_external"):
        return "This classifier was fine-tuned elsewhere and exported unchanged."
    method = _METHODS[recorded["stage"]]
    if recorded.get("replaced_modules"):
        modules = recorded["replaced_modules"]
        method += " The modules with a 1 in `%s` are replaced." % modules
    if recorded.get("distill_from"):
        method += "\nIt was distilled: a teacher's logits were part of the loss."
    rows = [(name, recorded[name]) for name in _SETTINGS if _is_used(name, recorded)]
    hashed = ("train_data", "dev_data", "weights", "distill_from")
    rows += [("SHA-256 of " + name, recorded[name]) for name in hashed if recorded.get(name)]
    steps = "steps" if _is_last(recorded) else "steps up to the best on dev"
    rows.append((steps, plain.best.global_step))
    return method + "\n\n" + metrics.markdown_table(("setting", "value"), rows)


def _is_used(name, recorded):
    """Returns whether a setting of a run config had an effect, a bool."""
    if name in ("distill_temperature", "distill_weight") and not recorded.get("distill_from"):
        return False
    return recorded.get(name) not in (None, _UNUSED.get(name))


def _is_last(recorded):
    return recorded.get("select_checkpoint") == "last"


def _scores(facts):
    task, results = facts.plain.task, facts.results or {}
    rows = [
        ("dev, this export", "%.4f" % facts.row.score, "", ""),
        ("dev, before exporting", "%.4f" % facts.graph_row.score, "", ""),
    ]
    evaluated = [(results["split"], results)] if results else []
    threshold = results.get("threshold")
    by = "" if threshold is None else ", --threshold=%s" % threshold
    for name, values in evaluated + list(results.get("eval_files", {}).items()):
        rows += _evaluated_rows(task, files.short_name(name) + by, values)
    head = ("file", task.score_name, "examples", "label loyalty, probability loyalty")
    chosen = "The checkpoint is the best one on dev, so the score on dev is slightly optimistic."
    if _is_last(facts.plain.run_config):
        chosen = "The checkpoint is the last one; nothing was selected on dev."
    if facts.plain.run_config.get("is_external"):
        chosen = "Its training data are not known."
    other = facts.paths.get("distill_from") or facts.paths.get("init_checkpoint")
    if not results.get("compared") and other:
        chosen += (
            "\nTo add a comparison here, run `--do_eval --compare_with=%s` before `--do_export`."
            % other
        )
    used = [place for place in range(len(head)) if place < 2 or any(row[place] for row in rows)]
    table = [[row[place] for place in used] for row in [head, *rows]]
    return metrics.markdown_table(table[0], table[1:]) + "\n\n" + chosen


def _evaluated_rows(task, name, values):
    rows = [(name, "%.4f" % metrics.score(task, values), values["num_examples"], "")]
    for other, theirs in values.get("compared", {}).items():
        loyal = "%.4f, %.4f" % (theirs["label_loyalty"], theirs["probability_loyalty"])
        beside = "%s, for comparison: %s" % (name, files.short_name(other))
        score = "%.4f" % metrics.score(task, theirs)
        rows.append((beside, score, theirs["num_examples"], loyal))
    return rows


def _speed(facts):
    on = machine.describe()
    seconds = zip(facts.row.seconds, facts.graph_row.seconds)
    rows = [
        (size, *("%.2f" % (1e3 * each) for each in pair))
        for size, pair in zip(facts.batch_sizes, seconds)
    ]
    head = ("batch", "this export", "before exporting")
    measured = (
        "%.1f MB. Median milliseconds for a batch of tokenized examples of dev,\non %s of type %s."
    )
    processors = "%s processors" % on["num_processors"]
    measured %= facts.row.megabytes, processors, on["processor"]
    return measured + "\n\n" + metrics.markdown_table(head, rows)


def _use(facts):
    task = facts.plain.task
    is_pair = task.num_texts == 2
    values = {
        "texts": '("text a", "text b")' if is_pair else '"text"',
        "hub": '{"text": "text a", "text_pair": "text b"}' if is_pair else '"text"',
        "length": facts.plain.run_config["max_seq_length"],
        "output": "score" if task.is_regression else "probabilities",
    }
    return (FORMATS[facts.format].use + "\n\n" + _HERE) % values


def _limits(plain):
    recorded = plain.run_config
    limits = ["Examples longer than %d tokens are truncated." % recorded["max_seq_length"]]
    settings = tokenizer_settings.recorded(recorded)
    if settings.do_lower_case:
        keeps = settings.strip_accents is False
        limits.append(
            "Case is dropped, accents are kept." if keeps else "Case and accents are dropped."
        )
    if settings.added_tokens:
        count = len(settings.added_tokens)
        limits.append("Its tokenizer has %d added tokens, which are never split." % count)
    limits.append("Evaluate it before using it outside its training domain.")
    if not plain.task.is_regression and plain.temperature == 1:
        limits.append("Its probabilities were not calibrated (`--calibrate`).")
    elif not plain.task.is_regression:
        form = (
            "Its logits are divided by %.4g, a temperature found on dev that calibrates the "
            "probabilities."
        )
        limits.append(form % plain.temperature)
    limits.append("Licence, language and the base model are not recorded: add them above.")
    return "\n".join("- " + line for line in limits)
