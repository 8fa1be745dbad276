#!/usr/bin/env bash
# Tries changes that could make a better successor at equal steps. The base is replacing with a
# linear rate and distillation; each run has one change, after which its folder is named. `stepwise`
# reaches fewer than 6 layers by way of 6. `alone` and `alone_spread` replace nothing: they are the
# distilled subset of the predecessor's lowest or spread layers.
#
# Variables: those of scripts/tables/tables.sh; LAYERS (6 2); STAGE_0, STAGE_1, STAGE_2 (3, 10 and 4
# epochs); STAGE_0_RATE, the predecessor's learning rate (LEARNING_RATE); TEMPERATURE (2) and WEIGHT
# (0.9) of the distillation; SUC_LEARNING_RATE (5 times LEARNING_RATE).
source "$(dirname "$0")/tables.sh"
require
STAGE_0="${STAGE_0:-${EPOCHS:-3}}"
STAGE_0_RATE="${STAGE_0_RATE:-$LEARNING_RATE}"
STAGE_1="${STAGE_1:-${EPOCHS:-10}}"
STAGE_2="${STAGE_2:-${EPOCHS:-4}}"
EPOCHS=  # From here on each training has its own.
SUC_LEARNING_RATE="${SUC_LEARNING_RATE:-$(awk "BEGIN { print 5 * $LEARNING_RATE }")}"

linear=(--replace_scheduler=linear --replace_until=0.8)

# recipe NAME FLAGS...: trains stages 1 and 2 with the flags; stage 1 also gets `stage_1_flags`.
recipe() {
  local folder="$root/${layers}_layers/$1"
  local common=(--suc_layers="$layers" --seed="$seed" "${distill[@]}" "${@:2}")
  train 1 "$folder/stage_1" "$STAGE_1" "${common[@]}" "${stage_1_flags[@]}"
  train 2 "$folder/stage_2" "$STAGE_2" "${common[@]}" --stage_1_outputdir="$folder/stage_1"
}

# alone NAME FLAGS...: trains without replacing, for as many epochs as both stages have.
alone() {
  local total
  total="$(awk "BEGIN { print $STAGE_1 + $STAGE_2 }")"
  train 2 "$root/${layers}_layers/$1" "$total" --suc_layers="$layers" --seed="$seed" \
    "${distill[@]}" "$start" "${@:2}"
}

# stepwise: half of stage 1's epochs go from the predecessor to 6 layers, half from these 6 to fewer.
stepwise() {
  local between="$root/${layers}_layers/stepwise/to_6" half
  half="$(awk "BEGIN { print $STAGE_1 / 2 }")"
  train 1 "$between" "$half" --suc_layers=6 --seed="$seed" "${distill[@]}" "${stage_1_flags[@]}"
  # shellcheck disable=SC2086  # Several flags in one variable.
  once "$between/export/bert" run_classifier.py --do_export --export_format=bert --suc_layers=6 \
    --stage_1_outputdir="$between" --data_dir="$DATA" ${FLAGS:-}
  stage_1_flags=("${linear[@]}")
  BERT="$between/export/bert" STAGE_1="$half" recipe stepwise
}

for seed in $SEEDS; do
  root="$OUT/recipes/seed_$seed"
  teacher="$root/predecessor"
  start=--init_checkpoint="$teacher"
  LEARNING_RATE="$STAGE_0_RATE" train 0 "$teacher" "$STAGE_0" --seed="$seed"
  distill=(--distill_from="$teacher" --distill_temperature="${TEMPERATURE:-2}"
    --distill_weight="${WEIGHT:-0.9}")
  for layers in ${LAYERS:-6 2}; do
    stage_1_flags=("$start" "${linear[@]}")
    recipe base
    recipe averaged --ema_decay=0.999
    recipe own_rate --suc_learning_rate="$SUC_LEARNING_RATE"
    stage_1_flags=("$start" --replace_scheduler=linear --replace_until=0.3)
    recipe early
    for place in last spread; do
      stage_1_flags=("$start" "${linear[@]}" --suc_init="$place")
      recipe "start_$place"
    done
    alone alone
    alone alone_spread --suc_init=spread
    stage_1_flags=("$start" "${linear[@]}")
    [ "$layers" -ge 6 ] || stepwise
  done
done
"$venv/bin/python" scripts/report.py "$OUT"
