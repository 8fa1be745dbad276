#!/usr/bin/env bash
# Replacing beside the same depth trained without it, with budgets fixed beforehand: the last
# checkpoint of every training is its model (--select_checkpoint=last), so that nothing is selected on
# dev. Each seed draws its own sample of PAIRS training pairs. In order, the most informative first:
#
#   predecessor           STAGE_0 epochs (6)
#   subset_N              N lowest layers of the predecessor, STAGE_1 + STAGE_2 epochs (3 + 2)
#   trained_on            the predecessor for as many epochs more
#   replacing_N           stage 1 with a linear rate and a lower rate for the predecessor, then stage 2
#   spread_distilled_N    N layers spread over the predecessor, distilled from it
#   distilled_N           N lowest layers, distilled
#   pretrained_N          N lowest layers of the pretrained BERT, as many epochs in all
#
# for N of LAYERS (6 3 2). METHODS chooses some of them. RATE_N is the learning rate of N layers (1e-4
# for 6, 2e-4 for 3, 3e-4 for 2), RATE that of the predecessor (1e-4). The other variables are in
# scripts/tables/tables.sh. Stopped anywhere and run again, it resumes.
source "$(dirname "$0")/tables.sh"
require comparison
LAYERS="${LAYERS:-6 3 2}"
source_data="$DATA"
train="$(files_of "$DATA" train | head -n 1)"
if [[ ! "$train" =~ \.(txt|tsv)$ ]]; then
  echo "$script: DATA=$DATA: expected a train.txt or train.tsv without a header" >&2
  exit 1
fi
count="${PAIRS:-50000}"
PAIRS=  # Each seed's folder holds its sample already.
STAGE_0="${STAGE_0:-${EPOCHS:-6}}"
STAGE_1="${STAGE_1:-${EPOCHS:-3}}"
STAGE_2="${STAGE_2:-${EPOCHS:-2}}"
EPOCHS=  # From here on each training has its own.
LEARNING_RATE="${RATE:-1e-4}"
METHODS="${METHODS:-subset trained_on replacing spread_distilled distilled pretrained}"
total="$(awk "BEGIN { print $STAGE_1 + $STAGE_2 }")"
in_all="$(awk "BEGIN { print $STAGE_0 + $STAGE_1 + $STAGE_2 }")"

# sample SEED: makes DATA, a folder with a seed's sample of the training pairs, in their order.
sample() {
  local split
  DATA="$OUT/data/${count}_seed_$1"
  mkdir -p "$DATA"
  for split in dev test; do
    files_of "$source_data" $split | head -n 1 | xargs -r -I{} cp {} "$DATA/"
  done
  [ ! -e "$DATA/train.txt" ] || return 0
  "$venv/bin/python" - "$train" "$DATA/train.txt" "$count" "$1" <<'EOF'
import os
import random
import sys

source, target, count, seed = sys.argv[1:]
with open(source, encoding="utf-8") as reader:
    lines = [line for line in reader if line.strip()]
rows = sorted(random.Random(int(seed)).sample(range(len(lines)), min(int(count), len(lines))))
with open(target + ".tmp", "w", encoding="utf-8") as writer:
    writer.writelines(lines[row] for row in rows)
os.replace(target + ".tmp", target)
EOF
}

for seed in $SEEDS; do
  sample "$seed"
  root="$OUT/comparison/seed_$seed"
  pre="$root/predecessor"
  common=(--seed="$seed" --select_checkpoint=last)
  distill=(--distill_from="$pre" --distill_temperature=2 --distill_weight=0.9)
  train 0 "$pre" "$STAGE_0" "${common[@]}"
  for method in $METHODS; do
    if [ "$method" = trained_on ]; then
      train 0 "$root/trained_on" "$total" "${common[@]}" --init_checkpoint="$pre"
      continue
    fi
    for layers in $LAYERS; do
      name="RATE_$layers" folder="$root/${method}_$layers"
      rate="${!name:-$(case $layers in 6) echo 1e-4 ;; 3) echo 2e-4 ;; *) echo 3e-4 ;; esac)}"
      these=("${common[@]}" --suc_layers="$layers")
      case "$method" in
        subset)
          LEARNING_RATE="$rate" train 2 "$folder" "$total" "${these[@]}" --init_checkpoint="$pre"
          ;;
        distilled)
          LEARNING_RATE="$rate" train 2 "$folder" "$total" "${these[@]}" \
            --init_checkpoint="$pre" "${distill[@]}"
          ;;
        spread_distilled)
          LEARNING_RATE="$rate" train 2 "$folder" "$total" "${these[@]}" \
            --init_checkpoint="$pre" "${distill[@]}" --suc_init=spread
          ;;
        pretrained)
          LEARNING_RATE="$rate" train 2 "$folder" "$in_all" "${these[@]}" --init_checkpoint="$BERT"
          ;;
        replacing)
          these+=(--suc_learning_rate="$rate")
          rate=5e-5
          LEARNING_RATE="$rate" train 1 "$folder/stage_1" "$STAGE_1" "${these[@]}" \
            --init_checkpoint="$pre" --replace_scheduler=linear --replace_until=0.8
          LEARNING_RATE="$rate" train 2 "$folder/stage_2" "$STAGE_2" "${these[@]}" \
            --stage_1_outputdir="$folder/stage_1"
          ;;
      esac
    done
  done
done
"$venv/bin/python" scripts/report.py "$OUT"
