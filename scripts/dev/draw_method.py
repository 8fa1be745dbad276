"""Draws docs/method.png: the three stages of 12 layers in 6 modules. Needs matplotlib.

python scripts/dev/draw_method.py
"""

import os

import matplotlib.pyplot as plt

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PREDECESSOR, SUCCESSOR = "#9db7d5", "#f0a35e"
NUM_MODULES = 6
STAGES = [
    ("predecessor\n(fine-tuned BERT)", (0, 0, 0, 0, 0, 0)),
    ("stage 1, one step", (0, 1, 0, 1, 1, 0)),
    ("stage 1, another step", (1, 0, 0, 1, 0, 1)),
    ("successor", (1, 1, 1, 1, 1, 1)),
]
"""The title of each column, and which of its modules are replaced, the lowest first."""


def draw_box(panel, left, bottom, height, color, text):
    """Draws a layer with its name."""
    panel.add_patch(plt.Rectangle((left, bottom), 1.6, height, facecolor=color, edgecolor="#333"))
    panel.text(left + 0.8, bottom + height / 2, text, ha="center", va="center", fontsize=8)


def draw_column(panel, left, title, replaced):
    """Draws a model: a module is two layers of the predecessor, or one of the successor."""
    for module, is_replaced in enumerate(replaced):
        bottom = 1.2 * module
        if is_replaced:
            draw_box(panel, left, bottom, 1.0, SUCCESSOR, "abcdef"[module])
            continue
        for half in range(2):
            number = 2 * module + half + 1
            draw_box(panel, left, bottom + 0.5 * half, 0.46, PREDECESSOR, "%d" % number)
    panel.text(left + 0.8, 1.2 * NUM_MODULES + 0.15, title, ha="center", va="bottom", fontsize=9)


def main():
    """Writes the picture."""
    plt.switch_backend("Agg")
    figure, panel = plt.subplots(figsize=(8, 4))
    for number, (title, replaced) in enumerate(STAGES):
        left = 2.9 * number
        draw_column(panel, left, title, replaced)
        if number in (0, 2):
            arrow = dict(arrowstyle="->", color="#333", lw=1.5)
            panel.annotate("", (left + 2.75, 3.6), (left + 1.75, 3.6), arrowprops=arrow)
    panel.text(5.25, -0.25, "modules are replaced at random", ha="center", va="top", fontsize=9)
    panel.text(9.5, -0.25, "6 layers, trained further", ha="center", va="top", fontsize=9)
    panel.text(0.8, -0.25, "12 layers, 6 modules", ha="center", va="top", fontsize=9)
    panel.set_xlim(-0.4, 2.9 * len(STAGES) - 0.9)
    panel.set_ylim(-0.8, 1.2 * NUM_MODULES + 1.1)
    panel.set_aspect("auto")
    panel.axis("off")
    figure.savefig(os.path.join(ROOT, "docs", "method.png"), dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
