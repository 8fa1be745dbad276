#!/usr/bin/env bash
# Makes small classifiers from a fresh clone: scripts/compress.sh on the sample in data/sample, with
# one epoch a training. The tiny BERT was pretrained on the sample's task and knows it in its last
# layers; therefore the successors start from these. After an interruption the same command resumes.
set -euo pipefail
cd "$(dirname "$0")/.."
export DATA=data/sample BERT=data/tiny_bert OUT="${OUT:-out_quickstart}" LAYERS="${LAYERS:-6 2}"
export FLAGS="${FLAGS:---num_train_epochs=1 --suc_init=last}"
exec bash scripts/compress.sh
