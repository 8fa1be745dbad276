#!/usr/bin/env bash
# Runs the tests in .venv, made if need be with $PYTHON (default: python3).
#
#   scripts/test.sh [arguments for pytest]
#   PYTHON=python3.7 VENV=.venv-tf1 scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
venv="${VENV:-.venv}"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade pip
"$venv/bin/python" -m pip install --quiet -r requirements-test.txt
exec "$venv/bin/python" -m pytest -q -n 2 "$@"
