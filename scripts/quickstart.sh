#!/usr/bin/env bash
# From a fresh clone to small classifiers: scripts/compress.sh on the sample in data/sample, with one
# epoch a training. Run again, it resumes where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
export DATA=data/sample BERT=data/tiny_bert OUT="${OUT:-out_quickstart}" LAYERS="${LAYERS:-6 2}"
export FLAGS="${FLAGS:---num_train_epochs=1}"
exec bash scripts/compress.sh
