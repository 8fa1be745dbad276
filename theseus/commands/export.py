"""--do_export: writes the best checkpoint's model in the formats of other programs."""

from theseus.commands.output import say
from theseus.export import exporter as exporter_lib
from theseus.export import writers

MEMORY_REMEDY = "a smaller --eval_batch_size"


def run(context, prepared):
    """Writes the exports; prints a table."""
    places, dev = prepared
    run_config = writers.exported_run_config(
        context.trained_folder().trained_run_config(), context.config.replaced_modules
    )
    for name, place in places.items():
        place.check(exporter_lib.identity(name, run_config))
    # Exports are float32, so the model that they are compared with must be too.
    trained = context.trained_model("float32")
    encoded = context.data.encode_file(dev, trained.tokenizer)
    batch_size = context.config.eval_batch_size
    exporter = exporter_lib.Exporter(context.folder, trained, encoded, batch_size, dev.examples)
    rows = [exporter.graph_row]
    try:
        for name, place in places.items():
            rows.append(exporter.export(name, place))
    finally:  # Report the complete exports, even if a later one fails.
        say(exporter_lib.format_rows(rows, context.task), context.pipes_predictions)
