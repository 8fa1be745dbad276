#!/usr/bin/env bash
# The paper's own ground: GLUE tasks, a BERT compressed to LAYERS (6) layers. For each of TASKS
# (rte mrpc sst-2; files in GLUE/<TASK>, as they are given out) and each seed: the predecessor, the
# same depth fine-tuned from it, distilled, and replaced at a constant and at a linear rate, all
# successors in as many steps. Variables beside those of scripts/tables.sh: GLUE (data/glue), TASKS,
# LAYERS, STAGE_0, STAGE_1, STAGE_2 (3, 3 and 2 epochs), METHODS as in scripts/controls.sh.
source "$(dirname "$0")/tables.sh"
GLUE="${GLUE:-data/glue}"
BERT_GIVEN="$BERT"
ROOT="$OUT"
for task in ${TASKS:-rte mrpc sst-2}; do
  name="$(echo "$task" | tr '[:lower:]' '[:upper:]')"
  DATA="$GLUE/$name" BERT="$BERT_GIVEN" OUT="$ROOT/$task" FLAGS="--task_name=$task ${FLAGS:-}" \
    LAYERS="${LAYERS:-6}" STAGE_0="${STAGE_0:-3}" STAGE_1="${STAGE_1:-3}" STAGE_2="${STAGE_2:-2}" \
    SEEDS="$SEEDS" LEARNING_RATE="$LEARNING_RATE" \
    METHODS="${METHODS:-direct distilled replacing replacing_linear replacing_distilled}" \
    bash scripts/controls.sh
done
"$venv/bin/python" scripts/report.py "$ROOT"
