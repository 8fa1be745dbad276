#!/usr/bin/env bash
# From a fresh clone to compressed models: takes the sample in data/sample through the three
# stages, for 6 and for 2 layers, and prints a table. Run again, it resumes where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

out=out_quickstart
venv="${VENV:-.venv}"
make_environment "$venv" requirements.txt

stage() {
  "$venv/bin/python" run_classifier.py --do_train --flagfile=data/tiny_bert/recommended.flags \
    --stage_0_outputdir="$out/predecessor" "$@"
}

# Stages 1 and 2 for a successor of $1 layers; further flags are for stage 1.
compress() {
  local folders=(--stage_1_outputdir="$out/replacing_$1" --stage_2_outputdir="$out/successor_$1")
  stage --suc_layers="$1" "${folders[@]}" --init_checkpoint="$out/predecessor" "${@:2}"
  stage --suc_layers="$1" "${folders[@]}" --finetune_suc
}

echo "five trainings in $out/: the predecessor, then stages 1 and 2 for 6 layers, and for 2"
stage --finetune_pre
compress 6
compress 2 --suc_init=last  # The lowest 2 layers, the default, know too little of this task.

echo
"$venv/bin/python" scripts/compare_models.py "$out/predecessor" "$out/successor_6" "$out/successor_2"
