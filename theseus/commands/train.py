"""--do_train: trains a stage, or resumes its training, and prints all evaluations."""

import collections
import json

from absl import logging

import modeling_theseus
import tokenization
from theseus import machine
from theseus.checkpoints import pretrained, token_check
from theseus.commands import distillation
from theseus.commands.output import say
from theseus.commands.run_config import check_contradiction
from theseus.distribution.replicas import opened
from theseus.distribution.workers import Workers
from theseus.errors import UserError
from theseus.inference import metrics
from theseus.runs.files import hash_text
from theseus.session import check_precision, count_gpus
from theseus.training import graph as graph_lib
from theseus.training import initial_weights, losses
from theseus.training.steps import StepRunner, Steps
from theseus.training.trainer import Trainer, follow

MEMORY_REMEDY = (
    "a larger --gradient_accumulation_steps, or a smaller --train_batch_size, --max_seq_length or "
    "--eval_batch_size"
)


def run(context, prepared):
    """Trains to the end and prints the dev metrics of each epoch; a follower only trains."""
    start, teacher, run_config = prepared
    config = context.config
    check_precision(config.training_precision)
    if config.xla and not count_gpus():
        logging.warning("--xla: there is no GPU, so nothing is compiled")
    with opened(config.distribution, config.peer_timeout_s) as replicas:
        run_config = dict(run_config, num_replicas=replicas.count)
        tokenizer = pretrained.make_tokenizer(start.model, start.tokenizer)
        if replicas.is_chief:
            check_contradiction(context.folder, run_config)
        train_data = context.data.encode_train(tokenizer, run_config)
        is_finished = replicas.is_chief and _is_finished(context.folder)
        if replicas.num_workers > 1 or not is_finished:
            _check_same_tokens(context, start, tokenizer)
            _say_what_is_trained(context, train_data)
            if teacher:
                train_data.teacher_logits = distillation.teacher_logits(
                    context, teacher, train_data, run_config
                )
            training = _Training(context, start, run_config, tokenizer)
            _train(training, train_data, replicas)
    if replicas.is_chief:
        _report(context, len(train_data))


def _check_same_tokens(context, start, tokenizer):
    """Compares the tokens with those of the pretrained BERT's own tokenizer, on dev's texts."""
    if not start.tokenizer_files:
        return
    examples = context.data.dev().examples
    texts = token_check.choose_texts(
        text for example in examples for text in (example.text_a, example.text_b) if text
    )
    reason = token_check.check_other_tokens(start.tokenizer_files, tokenizer, texts)
    if reason:
        logging.info("the model's own tokenizer was not compared with this program's: %s", reason)


def _is_finished(folder):
    """Returns whether a StageFolder's training is finished; if so, removes superfluous files."""
    state = folder.state()
    if state.is_finished:
        folder.sweep(state)
    return state.is_finished


def _report(context, num_examples):
    """Records how long a Context's training took, and prints its evaluations."""
    folder = context.folder
    state = folder.state()
    steps_per_epoch, _ = context.config.num_steps(num_examples)
    # Count the steps that were taken: early stopping may have saved some.
    examples = num_examples * state.last.global_step / steps_per_epoch
    write_training_time(folder, state.train_seconds, examples)
    say(evaluations_table(context.config, state, steps_per_epoch), context.pipes_predictions)


def _say_what_is_trained(context, train_data):
    stage, folder, num_examples = context.stage, context.folder, len(train_data)
    place = "stage %d, %s, in %s" % (stage.number, stage.name, folder.path)
    _, num_steps = context.config.num_steps(num_examples)
    without = ", %d of them without labels" % train_data.num_unlabelled
    without = without if context.config.unlabelled_file else ""
    logging.info("%s: %d steps on %d examples%s", place, num_steps, num_examples, without)
    changed = machine.describe_change(folder.environment(), machine.describe())
    if changed:
        message = (
            "%s was started with other software or hardware (now: %s); results may no longer "
            "be bit-identical"
        )
        logging.info(message, folder.path, changed)
    if context.task.takes_columns and context.task.labels:
        logging.info("the labels are %s", _describe_labels(context.task.labels))
    for label in _untaught_labels(context.task, train_data.labels):
        logging.warning("no training example has label %s; it cannot be learned", label)


def _describe_labels(labels):
    """Returns labels, tuple of str, as text; for two, also the label of precision and F1."""
    said = ", ".join(labels)
    if len(labels) == 2:
        form = (
            "; precision, recall and F1 are those of label %s (give --labels=%s,%s for those of %s)"
        )
        said += form % (labels[1], labels[1], labels[0], labels[0])
    return said


def _untaught_labels(task, label_ids):
    """Returns the labels, list of str, without a training example."""
    taught = set(label_ids.tolist())
    return [label for label in task.labels if task.label_ids[label] not in taught]


_Training = collections.namedtuple("_Training", "context start run_config tokenizer")
"""A Context, its InitialCheckpoint, what defines the run, and the tokenizer."""


def _train(training, train_data, replicas):
    """Builds the graph and trains: the chief claims and fills its folder, the others follow it.

    Args:
      training: a _Training.
      train_data: EncodedExamples.
      replicas: Replicas.
    """
    context, start, run_config, tokenizer = training
    config, bert_config = context.config, start.model.config
    groups = modeling_theseus.module_groups(
        context.stage, bert_config.num_hidden_layers, config.suc_layers, config.modules
    )
    _, num_steps = config.num_steps(len(train_data))
    grappler = graph_lib.benefits_from_grappler(bert_config)
    with replicas.session(grappler, config.xla) as session:
        class_weights = _class_weights(config, context.task, train_data.labels)
        graph = graph_lib.build_graph(
            config, bert_config, context.task, groups, num_steps, replicas, class_weights
        )
        initial = initial_weights.match_start(config.scope, start, graph.variables)
        parts = config.gradient_accumulation_steps
        runner = StepRunner(session, graph, train_data, parts, replicas)
        steps = Steps(config, train_data.lengths, runner)
        workers = Workers(replicas, session)
        workers.check_same_run(hash_text(json.dumps(run_config, sort_keys=True)))
        if not replicas.is_chief:
            is_done = follow(initial, steps, session, workers)
        else:
            if context.folder.state().last is None:
                initial_weights.check_fits(initial)  # Checked before anything is written.
            environment = dict(machine.describe(), **_hub_commit(start))
            model_files = _model_files(start.model)
            context.folder.claim(run_config, model_files, environment, config.paths())
            dev_data = context.data.encode_file(context.data.dev(), tokenizer)
            trainer = Trainer(config, graph, steps, dev_data, context.folder, session, workers)
            trainer.initialize(initial)
            is_done = trainer.run()
    if not is_done:
        raise UserError("stopped; the same command resumes the training")


def _class_weights(config, task, label_ids):
    """Returns the weight of each label as losses.classification_loss takes them, or None."""
    if config.class_weights == "balanced":
        return losses.balanced_weights(label_ids, len(task.labels))
    return config.class_weights or None


def _hub_commit(start):
    """Returns a dict with the commit of the hub's model that training starts from, or {}."""
    files = start.tokenizer_files
    commit = files and pretrained.hub_commit(files.folder)
    return {"hub_commit": commit} if commit else {}


def _model_files(model):
    vocab = tokenization.read_vocab(model.vocab_file)
    return {"bert_config.json": model.config.to_json_string(), "vocab.txt": vocab}


def write_training_time(folder, seconds, examples):
    """Writes how long the steps of a StageFolder's training took, and how fast they were."""
    folder.update_json(
        "timing.json", train_seconds=seconds, train_examples_per_second=examples / seconds
    )


def evaluations_table(config, state, steps_per_epoch):
    """Returns a table, str, of the dev metrics of each epoch; the model's epoch is marked."""
    rows = []
    for entry in state.evaluations:
        step = entry["global_step"]
        mark = "  " + config.select_checkpoint if step == state.best.global_step else ""
        rows.append(("epoch %.4g, step %d%s" % (step / steps_per_epoch, step, mark), entry))
    return metrics.format_table(rows)
