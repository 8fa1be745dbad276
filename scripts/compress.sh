#!/usr/bin/env bash
# Makes a small classifier from a BERT that is too slow, in one command:
#
#   DATA=my_data BERT=my_bert OUT=out_compressed bash scripts/compress.sh
#
# scripts/compress.py describes it and all variables.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
source "$root/scripts/environment.sh"
venv="${VENV:-$root/.venv}"
(cd "$root" && make_environment "$venv" requirements.txt)
exec "$venv/bin/python" "$root/scripts/compress.py"
