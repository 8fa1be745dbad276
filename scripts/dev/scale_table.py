"""Prints docs/scale.md's table: the hours of a compression by pairs and machine.

python scripts/dev/scale_table.py
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT, os.path.join(ROOT, "scripts")]

from compressing.plan import recipe_of  # noqa: E402
from theseus import cost  # noqa: E402
from theseus.model.bert_config import BertConfig  # noqa: E402

BERT_BASE = BertConfig(vocab_size=21128)
TOKENS = 25  # LCQMC's, on average.
PAIRS = (238766, 10**6, 10**8)
STAGE_0_EPOCHS = 3
# Name, Machine, how many of it count: eight GPUs are taken for 80 % of eight times one, and a
# laptop for 300 GFLOP/s.
MACHINES = (
    ("laptop", cost.Machine(3e11), 1),
    ("one H100", cost.GPU, 1),
    ("eight H100", cost.GPU, 8 * 0.8),
)


def hours(pairs, machine, layers):
    """Returns the hours of the recipe for so many layers; for all of BERT-base's, of stage 0."""
    step = cost.training_seconds(cost.Work(BERT_BASE, layers, TOKENS), machine)
    if layers == BERT_BASE.num_hidden_layers:
        return STAGE_0_EPOCHS * pairs / 64 * step / 3600
    recipe = recipe_of(layers)
    teacher = cost.Work(BERT_BASE, BERT_BASE.num_hidden_layers, TOKENS)
    once = cost.forward_seconds(teacher, machine) if recipe.is_distilled else 0
    return pairs / 64 * (recipe.epochs * step + once) / 3600


def table():
    """Returns the table in Markdown, str; figures have one digit."""
    lines = ["| pairs | machine | stage 0 | 6 layers | 2 layers |", "|---:|---|---:|---:|---:|"]
    for pairs in PAIRS:
        for name, machine, count in MACHINES:
            cells = [hours(pairs, machine, layers) / count for layers in (12, 6, 2)]
            shown = ["{:,g}".format(float("%.1g" % cell)) for cell in cells]
            lines.append("| {:,} | {} | {} |".format(pairs, name, " | ".join(shown)))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
