#!/usr/bin/env bash
# Measures the published times of inference: two sentences of 60 tokens, batches of 10 and of 1, the
# BERT against its successors of 6 and 2 layers. Its variables are in scripts/tables/tables.sh. It
# needs no data, since the weights are random.
source "$(dirname "$0")/tables.sh"
if missing_bert "what is timed"; then
  exit 1
fi
make_environment "$venv" requirements.txt
once "$OUT/inference_speed.json" scripts/benchmarks/benchmark_inference.py --bert_pretrained_model="$BERT" \
  --suc_layers=6,2 --batch_sizes=10,1 --json="$OUT/inference_speed.json"
