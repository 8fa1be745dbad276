#!/usr/bin/env bash
# Compares replacing with trainings of the same depth without it. The numbers of epochs are fixed
# beforehand, and the last checkpoint of every training is its model (--select_checkpoint=last), so
# that dev selects nothing. Each seed draws its own sample of PAIRS training pairs. The methods, the
# most informative first:
#
#   predecessor           STAGE_0 epochs (6)
#   subset_N              N lowest layers of the predecessor, STAGE_1 + STAGE_2 epochs (3 + 2)
#   trained_on            the predecessor, trained on for STAGE_1 + STAGE_2 epochs
#   replacing_N           stage 1 with a linear replacing rate and a lower learning rate for the
#                         predecessor, then stage 2
#   spread_distilled_N    N layers spread over the predecessor, distilled from it
#   distilled_N           N lowest layers, distilled
#   pretrained_N          N lowest layers of the pretrained BERT, STAGE_0 + STAGE_1 + STAGE_2 epochs
#   published_N           stages 1 and 2 as in replacing_N, but from the pretrained BERT, and all but
#                         the successor's layers train at RATE
#   pretrained_short_N    N lowest layers of the pretrained BERT, STAGE_1 + STAGE_2 epochs, all at RATE_N
#   unlabelled_N          as spread_distilled_N, for as many steps, on the sample and on the rest of
#                         the training pairs without their labels
#   short_N               as subset_N, STAGE_2 epochs
#   restarted_N           as subset_N, the learning rate schedule restarted after STAGE_1 epochs
#   layers_N              as subset_N, embeddings and classifier frozen
#   once_N                replacing as in the paper's code: one training, no stage 2, the rate rises
#                         from 0.3 to 1 at two thirds of the steps
#
# N stands for each of LAYERS (6 3 2). METHODS chooses methods (the first six after the predecessor).
# RATE is the predecessor's learning rate (1e-4), RATE_N that of N layers (1e-4 for 6, 2e-4 for 3,
# 3e-4 for 2). The other variables are in scripts/tables/tables.sh. After an interruption the same
# command resumes.
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

# sample SEED: makes the folder DATA with the seed's sample of the training pairs, in their order,
# and rest.txt, the other pairs without their labels.
sample() {
  local split
  DATA="$OUT/data/${count}_seed_$1"
  mkdir -p "$DATA"
  for split in dev test; do
    files_of "$source_data" $split | head -n 1 | xargs -r -I{} cp {} "$DATA/"
  done
  [ ! -e "$DATA/train.txt" ] || return 0
  "$venv/bin/python" - "$train" "$DATA" "$count" "$1" <<'EOF'
import os
import random
import sys

source, folder, count, seed = sys.argv[1:]
with open(source, encoding="utf-8") as reader:
    lines = [line for line in reader if line.strip()]
rows = sorted(random.Random(int(seed)).sample(range(len(lines)), min(int(count), len(lines))))
with open(os.path.join(folder, "train.tmp"), "w", encoding="utf-8") as writer:
    writer.writelines(lines[row] for row in rows)
rest = sorted(set(range(len(lines))).difference(rows))
with open(os.path.join(folder, "rest.txt"), "w", encoding="utf-8") as writer:
    writer.writelines("\t".join(lines[row].split("\t")[:2]) + "\n" for row in rest)
os.replace(os.path.join(folder, "train.tmp"), os.path.join(folder, "train.txt"))
EOF
}

# equal_steps EPOCHS: prints the number of epochs over the sample and the rest that has as many steps
# (batches of 64) as EPOCHS epochs over the sample.
equal_steps() {
  local labelled rest
  labelled="$(wc -l <"$DATA/train.txt")" rest="$(wc -l <"$DATA/rest.txt")"
  awk -v epochs="$1" -v some="$labelled" -v all="$((labelled + rest))" '
    function steps(examples) { return int((examples + 63) / 64) }
    BEGIN { printf "%.6f\n", epochs * steps(some) / steps(all) }'
}

# two_stages RATE START: stage 1 from START, with a linear replacing rate, then stage 2. RATE is the
# learning rate of all but the successor's layers.
two_stages() {
  local LEARNING_RATE="$1" these=("${these[@]}" --suc_learning_rate="$rate")
  train 1 "$folder/stage_1" "$STAGE_1" "${these[@]}" --init_checkpoint="$2" \
    --replace_scheduler=linear --replace_until=0.8
  train 2 "$folder/stage_2" "$STAGE_2" "${these[@]}" --stage_1_outputdir="$folder/stage_1"
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
        unlabelled)
          equal="$(equal_steps "$total")"
          LEARNING_RATE="$rate" train 2 "$folder" "$equal" "${these[@]}" --init_checkpoint="$pre" \
            "${distill[@]}" --suc_init=spread --unlabelled_file="$DATA/rest.txt"
          ;;
        short)
          LEARNING_RATE="$rate" train 2 "$folder" "$STAGE_2" "${these[@]}" --init_checkpoint="$pre"
          ;;
        restarted)
          LEARNING_RATE="$rate" train 2 "$folder/stage_1" "$STAGE_1" "${these[@]}" \
            --init_checkpoint="$pre"
          LEARNING_RATE="$rate" train 2 "$folder/stage_2" "$STAGE_2" "${these[@]}" \
            --init_checkpoint="$folder/stage_1"
          ;;
        layers)
          LEARNING_RATE="$rate" train 2 "$folder" "$total" "${these[@]}" --init_checkpoint="$pre" \
            --train_scope=successor_layers
          ;;
        once)
          LEARNING_RATE="$rate" train 1 "$folder" "$total" "${these[@]}" --init_checkpoint="$pre" \
            --train_scope=successor_layers --replace_scheduler=linear --replace_rate_prob=0.3 \
            --replace_until=0.667
          ;;
        pretrained)
          LEARNING_RATE="$rate" train 2 "$folder" "$in_all" "${these[@]}" --init_checkpoint="$BERT"
          ;;
        pretrained_short)
          LEARNING_RATE="$rate" train 2 "$folder" "$total" "${these[@]}" --init_checkpoint="$BERT"
          ;;
        replacing) two_stages 5e-5 "$pre" ;;
        published) two_stages "$LEARNING_RATE" "$BERT" ;;
      esac
    done
  done
done
"$venv/bin/python" scripts/report.py "$OUT"
