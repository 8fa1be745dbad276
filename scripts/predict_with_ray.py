"""Predicts many files with several processes, on one machine or many, with Ray Data.

  python scripts/predict_with_ray.py out_2/export/onnx 'pairs/*.parquet' --output_dir=predicted

The arguments are a trained stage's folder or an export, then files or patterns of files: text as
for --do_predict, or Parquet with columns of texts. Each file becomes one file in --output_dir, with
its rows in the same order. For text it has the predictions that --do_predict writes, in the file's
format; for Parquet, all columns and the predictions. A file appears when it is complete and is not
predicted again, so the same command resumes after an interruption. Every machine needs
`pip install ray pyarrow`; with an ONNX export none needs TensorFlow.
"""

import argparse
import glob
import logging
import os
import sys

from theseus import records
from theseus.errors import UserError
from theseus.inputs.rows import delimiter_of, format_of, is_delimiter
from theseus.runs import files

_RECORD = "predicted_by.json"


def parse_arguments():
    """Returns the command line as an argparse.Namespace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a trained stage's folder, or an export")
    parser.add_argument(
        "files", nargs="+", help="files to predict, or patterns such as 'pairs/*.parquet'"
    )
    parser.add_argument("--output_dir", default="predicted", help="folder for the predictions")
    parser.add_argument(
        "--address", help="address of a running Ray, such as auto; default: start a new one"
    )
    parser.add_argument(
        "--num_workers", type=int, help="number of processes; default: one for each CPU"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="number of examples in a batch")
    parser.add_argument(
        "--text_a_column", default="text_a", help="column of the text in Parquet files"
    )
    parser.add_argument(
        "--text_b_column", default="text_b", help="column of the second text in Parquet files"
    )
    parser.add_argument("--delimiter", default=",", help="column separator of CSV files, such as ;")
    options = parser.parse_args()
    if not is_delimiter(options.delimiter):
        sys.exit("predict_with_ray.py: --delimiter: takes one character, or tab")
    for name in ("num_workers", "batch_size"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            sys.exit("predict_with_ray.py: --%s: must be at least 1" % name)
    return options


def output_name(path):
    """Returns the name of the file for a file's predictions."""
    name = os.path.basename(path)
    return name if name.endswith(".parquet") else name + ".predictions." + format_of(path)


def find_files(patterns):
    """Returns the files that match, list of str; UserError for none or for two of one name."""
    found = []
    for pattern in patterns:
        matching = sorted(glob.glob(pattern)) or [pattern]
        found += [path for path in matching if path not in found]
    names = {}
    for path in found:
        if not os.path.isfile(path):
            raise UserError("%s: there is no such file" % path)
        first = names.setdefault(output_name(path), path)
        if first != path:
            raise UserError(
                "%s and %s: the predictions of both would be %s; use two --output_dir"
                % (first, path, output_name(path))
            )
    return found


def claim_folder(folder, model):
    """Makes the folder of predictions; UserError if it holds another model's predictions."""
    known_by = [os.path.join(model, name) for name in ("export.json", "state.json")]
    known_by = [path for path in known_by if os.path.exists(path)]
    if not known_by:
        raise UserError("%s: is neither a trained stage's folder nor an export" % model)
    made_by = {"model": os.path.realpath(model), "sha256": files.hash_files(known_by)}
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError("%s: cannot be created: %s" % (folder, error.strerror))
    path = os.path.join(folder, _RECORD)
    recorded = records.read_if_there(path, records.mapping(records.text()))
    if recorded is None:
        files.write_json(path, made_by)
    elif recorded != made_by:
        raise UserError(
            "%s: holds predictions of another model, %s; give another --output_dir"
            % (folder, recorded.get("model"))
        )


class Scorer(object):
    """A process that predicts one file after the other."""

    def __init__(self, model, output_dir, batch_size, columns, delimiter):
        """Loads the model; `columns` are Parquet's columns of texts, `delimiter` is CSV's."""
        from theseus import Classifier

        self._output_dir, self._batch_size = output_dir, batch_size
        self._delimiter = delimiter
        self._model, self._problem = None, ""
        try:
            self._model = Classifier(model)
            self._columns = columns[: self._model.task.num_texts]
        except UserError as error:
            self._problem = str(error)  # Raised here, Ray would print a hundred lines.

    def __call__(self, batch):
        """Predicts the files of a batch of Ray's; returns the outcomes as columns."""
        found = {"path": [], "rows": [], "problem": []}
        for path in map(str, batch["path"]):
            rows, problem = 0, self._problem
            try:
                rows = 0 if problem else self._predict(path)
            except UserError as error:
                problem = str(error)
            for name, value in zip(found, (path, rows, problem)):
                found[name].append(value)
        return found

    def _predict(self, path):
        """Predicts a file; returns the number of its rows."""
        from theseus.inference.predictions import write_predictions

        output = os.path.join(self._output_dir, output_name(path))
        if path.endswith(".parquet"):
            return self._predict_parquet(path, output)
        with files.writing(output) as writer:
            form = dict(format=format_of(path), delimiter=delimiter_of(self._delimiter))
            return write_predictions(writer, self._pools(path), **form)

    def _pools(self, path):
        """Yields (list of Example, their Predictions) of a text file."""
        from theseus.inputs import batches, reading, sources

        task, form = self._model.task, sources.ReadOptions(delimiter=self._delimiter)
        examples = reading.iterate_examples(path, task, False, form, keeps_others=True)
        for pool in batches.cut_into_pools(examples, self._batch_size):
            yield pool, self._predictions(pool)

    def _predictions(self, examples):
        from theseus.inference.predictions import Predictions

        logits = self._model.compute_logits(examples, self._batch_size)
        return Predictions.of(self._model.task, logits)

    def _predict_parquet(self, path, output):
        import pyarrow
        from pyarrow import parquet

        count, writer, temporary = 0, None, output + ".tmp"
        try:
            with parquet.ParquetFile(path) as reader:
                for table in reader.iter_batches(50 * self._batch_size):
                    table = self._with_predictions(pyarrow.table(table), path, count)
                    writer = writer or parquet.ParquetWriter(temporary, table.schema)
                    writer.write_table(table)
                    count += table.num_rows
            if writer is None:
                raise UserError("%s: holds no example" % path)
            writer.close()
            files.sync([temporary])
            os.replace(temporary, output)
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError("%s: cannot be predicted: %s" % (path, " ".join(str(error).split())))
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
        return count

    def _with_predictions(self, table, path, first_row):
        """Returns a table with additional columns for the predictions."""
        task = self._model.task
        predicted = self._predictions(self._examples(table, path, first_row))
        if task.is_regression:
            return table.append_column("predicted_score", [predicted.logits[:, 0]])
        labels = [task.labels[label_id] for label_id in predicted.ids]
        table = table.append_column("predicted_label", [labels])
        for label, column in zip(task.labels, predicted.probabilities.T):
            table = table.append_column("probability_%s" % label, [column])
        return table

    def _examples(self, table, path, first_row):
        from theseus.inputs.reading import Example, holds_nothing

        for column in self._columns:
            if column not in table.column_names:
                raise UserError("%s: has no column %s; see --text_a_column" % (path, column))
        rows = list(zip(*[table.column(column).to_pylist() for column in self._columns]))
        for number, texts in enumerate(rows, first_row):
            are_texts = all(isinstance(text, str) for text in texts)
            if not are_texts or holds_nothing(texts[0], texts[-1]):
                raise UserError(
                    "%s, row %d (from 0): expected texts, found %r" % (path, number, texts)
                )
        return [Example(*(texts + (None,) * (2 - len(texts))), None) for texts in rows]


def predict(options, paths):
    """Predicts files; yields (path, number of rows, problem or "") as each is done."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    logging.disable(logging.WARNING)  # Ray logs each of its steps.
    ray.init(options.address, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    workers = options.num_workers or max(1, int(ray.cluster_resources()["CPU"]))
    given = dict(
        model=os.path.abspath(options.model),
        output_dir=os.path.abspath(options.output_dir),
        batch_size=options.batch_size,
        columns=[options.text_a_column, options.text_b_column],
        delimiter=options.delimiter,
    )
    items = [{"path": os.path.abspath(path)} for path in paths]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Scorer,
        fn_constructor_kwargs=given,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
    )
    for row in done.iter_rows():
        yield row["path"], row["rows"], row["problem"]


def main():
    """Predicts the files that are missing; failures are one line each, and make exit status 1."""
    options = parse_arguments()
    problems = 0
    try:
        paths = find_files(options.files)
        claim_folder(options.output_dir, options.model)
        done = {path for path in paths if os.path.exists(_output(options, path))}
        print("%d files, %d of them already predicted" % (len(paths), len(done)))
        missing = [path for path in paths if path not in done]
        for path, rows, problem in predict(options, missing) if missing else ():
            print(problem or "%s: %d rows" % (path, rows), flush=True)
            problems += bool(problem)
    except UserError as error:
        sys.exit("predict_with_ray.py: %s" % error)
    if problems:
        sys.exit("predict_with_ray.py: %d files could not be predicted" % problems)


def _output(options, path):
    return os.path.join(options.output_dir, output_name(path))


if __name__ == "__main__":
    main()
