#!/usr/bin/env bash
# The paper's own recipe, for 6 and 2 layers: the predecessor fine-tuned (3 epochs), then frozen
# with embeddings and classifier while a linear rate replaces its modules (10 epochs), then the
# successor's layers alone (4 epochs). Its variables are in scripts/tables/tables.sh.
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
