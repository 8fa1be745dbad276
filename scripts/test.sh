#!/usr/bin/env bash
# Runs the tests in .venv, made if need be.
#
#   bash scripts/test.sh [arguments for pytest]
#   PYTHON=python3.7 VENV=.venv-tf1 bash scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

venv="${VENV:-.venv}"
make_environment "$venv" requirements-test.txt
exec "$venv/bin/python" -m pytest -q -n 2 "$@"
