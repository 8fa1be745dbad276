"""Makes small classifiers from a BERT that is too slow, prints their costs, and chooses one.

    DATA=my_data BERT=my_bert OUT=out_compressed python -m theseus.tools.compress

If BERT is not a classifier for the labels of DATA, it is fine-tuned first. Then successors of
LAYERS layers are made from it and exported as ONNX, in float32 and int8, and the exports are scored
and timed. The smallest one that retains KEEP percent of the predecessor's score on dev and answers
within MAX_MS is copied to OUT/model; test selects nothing. After an interruption the same command
resumes. Other LAYERS are added to those in OUT; if nothing changed, nothing is trained or measured.

  DATA      folder with train, dev and perhaps test, as run_classifier.py reads them
  BERT      a Hugging Face folder, owner/name of its hub, a TensorFlow checkpoint, or a stage 0
  OUT       folder for all output (out_compressed)
  LAYERS    the successors' numbers of layers (those of 6 4 3 2 that are below BERT's)
  KEEP      percentage of the predecessor's score that must be retained (98)
  MAX_MS    milliseconds within which one example must be answered (any)
  UNLABELLED  a file of texts as in DATA without labels, such as yesterday's requests: distilled
            successors also learn from the predecessor's answers to them (none)
  SEED      42
  FLAGS     more flags of run_classifier.py for every training, such as --task_name=custom
"""

import os
import shutil
import signal
import sys

from absl import logging

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from compressing.commands import Commands
from compressing.plan import Plan
from compressing.settings import read_settings
from compressing.table import HOW_MEASURED, choose, format_table, measured_once, warning_of
from theseus.errors import UserError


def deliver(row, rows, task, settings):
    """Copies the chosen exports to OUT/model and OUT/model_huggingface; the card gets the table."""
    hugging_face = os.path.join(os.path.dirname(row.folder), "huggingface")
    of_float = next(one for one in rows if (one.layers, one.name) == (row.layers, "float32"))
    for source, name, marked in (
        (row.folder, "model", row),
        (hugging_face, "model_huggingface", of_float),
    ):
        table = format_table(rows, task, marked)
        place = os.path.join(settings.out, name)
        unfinished = place + ".unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        with open(os.path.join(unfinished, "README.md"), "a", encoding="utf-8") as card:
            card.write("\n## Beside other depths\n\n%s\n\n%s\n" % (table, HOW_MEASURED))
        shutil.rmtree(place, ignore_errors=True)
        os.rename(unfinished, place)
    return os.path.join(settings.out, "model")


def main():
    """Makes and measures models, chooses one; prints a line per step, then the table and model."""
    logging.set_verbosity(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = read_settings(os.environ)
        plan = Plan(settings)
        commands = Commands(settings.out, plan.content)
        plan.add_done(commands)
        kind = "is a" if plan.is_classifier else "begins the fine-tuning of a"
        labels = "the labels " + ", ".join(plan.task.labels) if plan.task.labels else "numbers"
        print("%s %s classifier for %s" % (settings.bert, kind, labels))
        if plan.note:
            print(plan.note)
        print(plan.estimate(commands))
        print("Minutes and seconds of each step; the full log is %s" % plan.folder("log.txt"))
        for title, name, arguments in plan.commands():
            commands.run(title, name, arguments)
        measured = measured_once(plan, settings, commands)
        row, said = choose(measured, settings)
        place = deliver(row, measured, plan.task, settings)
    except UserError as error:
        sys.exit("compress: %s" % error)
    except KeyboardInterrupt:
        sys.exit("\ncompress: interrupted; the same command resumes where it stopped")
    print("\n%s\n\n%s\n" % (format_table(measured, plan.task), HOW_MEASURED))
    print("%d layers, %s: %s" % (row.layers, row.name, said))
    if warning_of(row, plan):
        print(warning_of(row, plan))
    example = '"text"' if plan.task.num_texts == 1 else '("text a", "text b")'
    print("\nTo use it:\n\nfrom theseus import Classifier")
    print('model = Classifier("%s")' % place)
    print("print(model.classify([%s]))" % example)


if __name__ == "__main__":
    main()
