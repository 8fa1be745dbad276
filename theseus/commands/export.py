"""--do_export: the best checkpoint's model in the formats of other programs."""

import collections
import os

from theseus.commands.output import say
from theseus.export import exporter as exporter_lib
from theseus.export import formats
from theseus.export.place import Place

MEMORY_REMEDY = "a smaller --eval_batch_size"


def prepare(context):
    """Returns (the Places by format, the ExampleFile of dev that exports are compared on)."""
    places = export_places(context)
    formats.refuse_missing_packages(places)
    for place in places.values():
        place.check()
    return places, context.data.dev()


def run(context, prepared):
    """Writes the exports; prints a table."""
    places, dev = prepared
    definition = formats.exported_definition(
        context.folder.trained_definition(), context.config.replaced_modules
    )
    for name, place in places.items():
        place.check(exporter_lib.identity(name, definition))
    # An export is float32: so is what it is compared with.
    trained = context.trained_model("float32")
    encoded = context.data.encode_file(dev, trained.tokenizer)
    batch_size = context.config.eval_batch_size
    exporter = exporter_lib.Exporter(context.folder, trained, encoded, batch_size, dev.examples)
    rows = [exporter.graph_row]
    try:
        for name, place in places.items():
            rows.append(exporter.export(name, place))
    finally:  # What is complete is said, even where a later one fails.
        say(exporter_lib.format_rows(rows, context.task), context.pipes_predictions)


def export_places(context):
    """Returns the place.Place of each export by the name of its format."""
    config, places = context.config, collections.OrderedDict()
    for name in config.export_format:
        if name == "onnx" and config.quantize:
            name = "onnx_" + config.quantize
        place = context.result(os.path.join("export", name))
        path = config.export_dir or context.folder.file(place)
        places[name] = Place(path)
    return places
