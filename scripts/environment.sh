# Sourced by the other scripts: finds a suitable Python and makes the virtual environment.

# Prints the first suitable Python: $PYTHON, or one of the usual names.
find_python() {
  local candidates="${PYTHON:-python3 python python3.13 python3.12 python3.11 python3.10 python3.7}"
  local versions="[(3, 7), (3, 10), (3, 11), (3, 12), (3, 13)]" python
  for python in $candidates; do
    if "$python" -c "import sys, ensurepip; sys.exit(sys.version_info[:2] not in $versions)" 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "$(basename "$0"): needs Python 3.10 to 3.13, or 3.7, with venv; found none among" \
    "$candidates; install one, or set PYTHON=/path/to/python" >&2
  return 1
}

# Makes the virtual environment $1 and installs requirements file $2 and this program into it. Does
# nothing if that was done since the requirements last changed.
make_environment() {
  local venv="$1" requirements="$2" stamp="$1/$2.installed" python
  if [ -e "$stamp" ] && [ -z "$(find requirements*.txt -newer "$stamp")" ]; then
    return
  fi
  if [ ! -x "$venv/bin/pip" ]; then
    python="$(find_python)" || return 1
    "$python" -m venv "$venv"
  fi
  echo "installing $requirements into $venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
  "$venv/bin/python" -m pip install --quiet -r "$requirements"
  "$venv/bin/python" -m pip install --quiet --quiet --no-deps -e .
  touch "$stamp"
}
