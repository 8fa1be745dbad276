#!/usr/bin/env bash
# Compresses a BERT to LAYERS (6) layers on GLUE, the paper's tasks. For each of TASKS (rte mrpc
# sst-2; the published files in GLUE/RTE and so on) and each seed it trains the predecessor, the
# fine-tuned and the distilled subset, and replacing at a constant and at a linear rate; all
# successors have equal steps. Variables: those of scripts/tables/tables.sh; GLUE (data/glue); TASKS;
# LAYERS; STAGE_0, STAGE_1, STAGE_2 (3, 3 and 2 epochs); METHODS as in scripts/tables/controls.sh.
# TEST is no, since GLUE's test files have no labels.
source "$(dirname "$0")/tables.sh"
GLUE="${GLUE:-data/glue}"
TASKS="${TASKS:-rte mrpc sst-2}"

# Prints a task's folder: its name in capitals, except for CoLA.
folder_of() {
  if [ "$1" = cola ]; then
    echo "$GLUE/CoLA"
  else
    echo "$GLUE/$(echo "$1" | tr "[:lower:]" "[:upper:]")"
  fi
}

missing=0
for task in $TASKS; do
  ! missing_data "$(folder_of "$task")" || missing=1
done
! missing_bert || missing=1
[ "$missing" = 0 ] || exit 1

for task in $TASKS; do
  DATA="$(folder_of "$task")" TEST=no BERT="$BERT" OUT="$OUT/$task" \
    FLAGS="--task_name=$task ${FLAGS:-}" \
    LAYERS="${LAYERS:-6}" STAGE_0="${STAGE_0:-${EPOCHS:-3}}" STAGE_1="${STAGE_1:-${EPOCHS:-3}}" \
    STAGE_2="${STAGE_2:-${EPOCHS:-2}}" SEEDS="$SEEDS" LEARNING_RATE="$LEARNING_RATE" \
    METHODS="${METHODS:-direct distilled replacing replacing_linear replacing_distilled}" \
    bash scripts/tables/controls.sh
done
"$venv/bin/python" scripts/report.py "$OUT"
