#!/usr/bin/env bash
# Trains the published table's other run, out_1_3: 2 layers, stage 1 with 4 epochs. Its variables are
# in scripts/tables/tables.sh.
source "$(dirname "$0")/tables.sh"
require

for seed in $SEEDS; do
  train 1 "$OUT/published/seed_$seed/out_1_3" 4 --suc_layers=2 --seed="$seed"
done
"$venv/bin/python" scripts/report.py "$OUT"
