#!/usr/bin/env bash
# Trains the published table's rows for 6 layers: stage 1 from the pretrained BERT with 10, 4 and 3
# epochs; after the one with 10, stage 2 with 4. Its variables are in scripts/tables/tables.sh.
source "$(dirname "$0")/tables.sh"
require

for seed in $SEEDS; do
  folder="$OUT/published/seed_$seed"
  train 1 "$folder/6_layers_10" 10 --suc_layers=6 --seed="$seed"
  train 2 "$folder/6_layers_10_4" 4 --suc_layers=6 --seed="$seed" \
    --stage_1_outputdir="$folder/6_layers_10"
  train 1 "$folder/6_layers_4" 4 --suc_layers=6 --seed="$seed"
  train 1 "$folder/6_layers_3" 3 --suc_layers=6 --seed="$seed"
done
"$venv/bin/python" scripts/report.py "$OUT"
