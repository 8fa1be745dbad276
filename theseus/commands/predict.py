"""--do_predict: the best checkpoint's predictions for a file, or for standard input."""

import collections
import time

from theseus.commands.evaluate import check_other_tasks
from theseus.commands.output import say, standard_output
from theseus.inference import evaluation
from theseus.inputs import batches, reading, sources

MEMORY_REMEDY = "a smaller --predict_batch_size"

Input = collections.namedtuple("Input", "path format num_examples")
"""A file of examples, labelled or not, its format, and how many it holds."""


def prepare(context):
    """Returns the Input, which was read to its end: it may be larger than the memory."""
    check_other_tasks(context)
    path = context.config.predict_file or context.data.paths("test")[0]
    return Input(path, context.data.format_of(path), sum(1 for _ in _examples(context, path)))


def _examples(context, path):
    data = context.data
    return reading.iterate_examples(
        path, data.task, labels_required=False, form=data.form, keeps_others=True
    )


def run(context, given):
    """Writes the predictions in the order of the Input's lines.

    Those of a file go to predictions.tsv, or .csv or .jsonl, as the file's format is; those of
    standard input to standard output.
    """
    folder, config = context.folder, context.config
    trained = context.trained_model()
    start = time.perf_counter()
    with _writer(context, given) as writer:
        pools = _classify(context, trained, given)
        count = evaluation.write_predictions(
            writer,
            context.task,
            pools,
            config.threshold,
            config.abstain_below,
            given.format,
            delimiter=context.data.form.delimiter,
        )
    seconds = time.perf_counter() - start
    if given.path != sources.STANDARD_INPUT:
        speed = count / seconds
        timing = dict(predict_seconds=seconds, predict_examples_per_second=speed)
        folder.update_json(context.result("timing.json"), **timing)
        say("%d predictions in %s" % (count, folder.file(_name(context, given))))


def _writer(context, given):
    if given.path == sources.STANDARD_INPUT:
        return standard_output()
    return context.folder.writing(_name(context, given))


def _name(context, given):
    return context.result("predictions." + given.format)


def _classify(context, trained, given):
    """Yields (Examples, logits) of one pool of an Input after another."""
    batch_size = context.config.predict_batch_size
    run_model = evaluation.runner(trained.session, trained.graph)
    unseen = context.data.unseen(trained.tokenizer)
    with evaluation.progress_bar("predict", given.num_examples) as bar:
        for pool in batches.cut_into_pools(_examples(context, given.path), batch_size):
            encoded = context.data.encode(pool, trained.tokenizer)
            unseen.add(encoded, lambda examples=pool: examples)
            yield pool, evaluation.compute_logits(run_model, encoded, batch_size, bar)
    unseen.log(given.path)
