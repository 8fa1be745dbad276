#!/usr/bin/env bash
# Trains with the paper's own recipe, for 6 and 2 layers: fine-tuning the predecessor (3 epochs);
# replacing with a linear rate while predecessor, embeddings and classifier are frozen (10 epochs);
# then training only the successor's layers (4 epochs). Its variables are in scripts/tables/tables.sh.
source "$(dirname "$0")/tables.sh"
require

for seed in $SEEDS; do
  folder="$OUT/paper/seed_$seed"
  train 0 "$folder/predecessor" 3 --seed="$seed"
  for layers in 6 2; do
    train 1 "$folder/${layers}_layers" 10 --suc_layers="$layers" --seed="$seed" \
      --init_checkpoint="$folder/predecessor" --train_scope=successor_layers \
      --replace_scheduler=linear --replace_until=0.8
    train 2 "$folder/${layers}_layers_4" 4 --suc_layers="$layers" --seed="$seed" \
      --stage_1_outputdir="$folder/${layers}_layers" --train_scope=successor_layers
  done
done
"$venv/bin/python" scripts/report.py "$OUT"
