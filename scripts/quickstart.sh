#!/usr/bin/env bash
# From a fresh clone to small classifiers: scripts/compress.sh on the sample in data/sample, with one
# epoch a training. The tiny BERT has seen the sample's task; what it knows of it is in its last
# layers, with which the successors start here. Run again, it resumes where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
export DATA=data/sample BERT=data/tiny_bert OUT="${OUT:-out_quickstart}" LAYERS="${LAYERS:-6 2}"
export FLAGS="${FLAGS:---num_train_epochs=1 --suc_init=last}"
exec bash scripts/compress.sh
