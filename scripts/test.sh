#!/usr/bin/env bash
# Runs the tests in .venv, made if need be with $PYTHON (default: python3).
#
#   scripts/test.sh [arguments for pytest]
#   PYTHON=python3.7 VENV=.venv-tf1 scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
venv="${VENV:-.venv}"

"$python" -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 7), (3, 10), (3, 11), (3, 12), (3, 13)])' ||
  { echo "test.sh: $python is $("$python" -V 2>&1); set PYTHON to a Python 3.10 to 3.13, or 3.7" >&2; exit 1; }

# Installed again only when the requirements have changed.
stamp="$venv/installed"
if [ ! -e "$stamp" ] || [ requirements.txt -nt "$stamp" ] || [ requirements-test.txt -nt "$stamp" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --upgrade pip
  "$venv/bin/python" -m pip install --quiet -r requirements-test.txt
  touch "$stamp"
fi
exec "$venv/bin/python" -m pytest -q -n 2 "$@"
