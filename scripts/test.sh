#!/usr/bin/env bash
# Runs the tests in .venv, made if need be; with --all the long ones too.
#
#   bash scripts/test.sh [--all] [arguments for pytest]
#   PYTHON=python3.7 VENV=.venv-tf1 bash scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

venv="${VENV:-.venv}"
make_environment "$venv" requirements-test.txt
if [ "${1:-}" = --all ]; then
  shift
  set -- -m "" "$@" # pyproject.toml leaves out what is marked as long.
fi
exec "$venv/bin/python" -m pytest -q -n 2 "$@"
