#!/usr/bin/env bash
# Compares replacing with trainings without it, at equal steps: all methods make a classifier of
# LAYERS (6 2) layers in as many epochs as stages 1 and 2 together (STAGE_1 + STAGE_2, 10 + 4). Each
# method has a folder:
#
#   replacing            stage 1 from the fine-tuned predecessor, then stage 2
#   replacing_linear     the same with a linear rate
#   replacing_layers     replacing_linear with the paper's --train_scope=successor_layers: the
#                        predecessor, the embeddings and the classifier stay as they are
#   replacing_pretrained stage 1 from the pretrained BERT, as published, then stage 2
#   direct_pretrained    fine-tuned subset: the lowest layers of the pretrained BERT
#   direct               fine-tuned subset: the lowest layers of the predecessor
#   distilled            distilled subset: as direct, with the predecessor's logits in the loss
#   replacing_distilled  replacing_linear, with the predecessor's logits in the loss of both stages
#
# METHODS chooses some of them. Stage 1 keeps the predecessor, for scripts/frontier.py. STAGE_0_RATE
# is the predecessor's learning rate (LEARNING_RATE); with it, copies of OUT with the same predecessor
# can try several LEARNING_RATEs. SUC_FLAGS are more flags for every training of a successor. The
# other variables are in scripts/tables/tables.sh.
source "$(dirname "$0")/tables.sh"
LAYERS="${LAYERS:-6 2}"
STAGE_0="${STAGE_0:-${EPOCHS:-3}}"
STAGE_0_RATE="${STAGE_0_RATE:-$LEARNING_RATE}"
STAGE_1="${STAGE_1:-${EPOCHS:-10}}"
STAGE_2="${STAGE_2:-${EPOCHS:-4}}"
all="direct distilled replacing_linear replacing_distilled replacing replacing_layers"
METHODS="${METHODS:-$all direct_pretrained replacing_pretrained}"
for method in $METHODS; do
  case "$method" in
    direct | direct_pretrained | distilled) ;;
    replacing | replacing_linear | replacing_layers | replacing_pretrained | replacing_distilled) ;;
    *)
      echo "$script: METHODS: $method is not a method of this script; see its first lines" >&2
      exit 1
      ;;
  esac
done
if [[ " $METHODS " == *" direct_pretrained "* ]]; then
  require direct_pretrained
else
  require
fi
EPOCHS=  # From here on each training has its own.

linear=(--replace_scheduler=linear --replace_until=0.8)

# replace FOLDER FLAGS...: trains stages 1 and 2 with the flags; stage 1 also gets `stage_1_flags`.
replace() {
  train 1 "$1/stage_1" "$STAGE_1" "${@:2}" "${stage_1_flags[@]}"
  train 2 "$1/stage_2" "$STAGE_2" "${@:2}" --stage_1_outputdir="$1/stage_1"
}

for seed in $SEEDS; do
  root="$OUT/controls/seed_$seed"
  teacher="$root/predecessor"
  LEARNING_RATE="$STAGE_0_RATE" train 0 "$teacher" "$STAGE_0" --seed="$seed"
  for layers in $LAYERS; do
    # shellcheck disable=SC2206  # Several flags in one variable.
    common=(--suc_layers="$layers" --seed="$seed" ${SUC_FLAGS:-})
    distill=(--distill_from="$teacher" --distill_temperature="${TEMPERATURE:-2}"
      --distill_weight="${WEIGHT:-0.9}")
    total="$(awk "BEGIN { print $STAGE_1 + $STAGE_2 }")"  # Parts of epochs too.
    for method in $METHODS; do
      folder="$root/${layers}_layers/$method"
      stage_1_flags=(--init_checkpoint="$teacher" --keep_predecessor)
      case "$method" in
        direct) train 2 "$folder" "$total" "${common[@]}" --init_checkpoint="$teacher" ;;
        direct_pretrained) train 2 "$folder" "$total" "${common[@]}" --init_checkpoint="$BERT" ;;
        distilled)
          train 2 "$folder" "$total" "${common[@]}" --init_checkpoint="$teacher" "${distill[@]}"
          ;;
        replacing) replace "$folder" "${common[@]}" ;;
        replacing_linear)
          stage_1_flags+=("${linear[@]}")
          replace "$folder" "${common[@]}"
          ;;
        replacing_layers)
          stage_1_flags+=("${linear[@]}")
          replace "$folder" "${common[@]}" --train_scope=successor_layers
          ;;
        replacing_pretrained)
          stage_1_flags=(--keep_predecessor)
          replace "$folder" "${common[@]}"
          ;;
        replacing_distilled)
          stage_1_flags+=("${linear[@]}")
          replace "$folder" "${common[@]}" "${distill[@]}"
          ;;
      esac
    done
  done
done
"$venv/bin/python" scripts/report.py "$OUT"
