"""--do_export: the best checkpoint's model in the formats of other programs."""

import collections
import os

from theseus.export import exporter as exporter_lib
from theseus.export import formats

MEMORY_REMEDY = "a smaller --eval_batch_size"


def prepare(context):
    """Returns the ExampleFile of dev, on which each export is compared with the graph."""
    formats.refuse_missing_packages(export_paths(context))
    return context.data.dev()


def run(context, dev):
    """Writes the exports; prints a table."""
    paths = export_paths(context)
    exporter_lib.refuse_foreign(context.folder, paths)
    # An export is float32: so is what it is compared with.
    trained = context.trained_model("float32")
    encoded = context.data.encode_file(dev, trained.tokenizer)
    batch_size = context.options.inference.eval_batch_size
    exporter = exporter_lib.Exporter(context.folder, trained, encoded, batch_size, dev.examples)
    rows = [exporter.graph_row]
    try:
        for name, path in paths.items():
            rows.append(exporter.export(name, path))
    finally:  # What is complete is said, even where a later one fails.
        print(exporter_lib.format_rows(rows, context.task), flush=True)


def export_paths(context):
    """Returns the folder of each export by the name of its format."""
    options, paths = context.options.export, collections.OrderedDict()
    for name in options.export_format:
        if name == "onnx" and options.quantize:
            name = "onnx_" + options.quantize
        paths[name] = options.export_dir or context.folder.file(os.path.join("export", name))
    return paths
