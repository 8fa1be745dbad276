"""--do_predict: the best checkpoint's predictions for a file, or for standard input."""

import time

from theseus.commands.output import say, standard_output
from theseus.commands.preparation import examples_of
from theseus.inference import evaluation, predictions
from theseus.inference.predictions import Predictions
from theseus.inputs import batches, sources

MEMORY_REMEDY = "a smaller --predict_batch_size"


def run(context, prepared):
    """Writes the predictions in the order of the file's lines.

    The predictions of a file go to predictions.tsv, .csv or .jsonl, according to the file's format.
    The predictions of standard input go to standard output.
    """
    folder, is_piped = context.folder, context.pipes_predictions
    path, num_examples = prepared
    trained, format = context.trained_model(), context.data.format_of(path)
    name = context.result("predictions." + format)
    start = time.perf_counter()
    with standard_output() if is_piped else folder.writing(name) as writer:
        count = predictions.write_predictions(
            writer,
            _predict(context, trained, path, num_examples),
            context.config.abstain_below,
            format,
            context.data.form.delimiter,
        )
    seconds = time.perf_counter() - start
    if not is_piped:
        timing = dict(predict_seconds=seconds, predict_examples_per_second=count / seconds)
        folder.update_json(context.result("timing.json"), **timing)
        say("%d predictions in %s" % (count, folder.file(name)))


def _predict(context, trained, path, num_examples):
    """Yields (Examples, their Predictions) of a file, pool by pool."""
    config = context.config
    run_model = evaluation.runner(trained.session, trained.graph)
    unseen = context.data.unseen(trained.tokenizer)
    with predictions.progress_bar("predict", num_examples) as bar:
        pools = batches.cut_into_pools(examples_of(context, path), config.predict_batch_size)
        for pool in pools:
            encoded = context.data.encode(pool, trained.tokenizer)
            unseen.add(encoded, lambda examples=pool: examples)
            logits = predictions.compute_logits(run_model, encoded, config.predict_batch_size, bar)
            yield pool, Predictions.of(context.task, logits, config.threshold)
    unseen.log(sources.name_of(path))
