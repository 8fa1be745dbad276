#!/usr/bin/env bash
# From a BERT that is too slow to a small classifier, in one command:
#
#   DATA=my_data BERT=my_bert OUT=out_compressed bash scripts/compress.sh
#
# scripts/compress.py says what it does, and has the other variables.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
source "$root/scripts/environment.sh"
venv="${VENV:-$root/.venv}"
(cd "$root" && make_environment "$venv" requirements.txt)
exec "$venv/bin/python" "$root/scripts/compress.py"
