# Sourced by the scripts that reproduce tables. By default they run the published settings;
# environment variables change them or make them smaller:
#
#   DATA           folder with train and dev (data/lcqmc)
#   TEST           whether the test file of DATA, if any, is evaluated, yes or no (yes)
#   BERT           folder or hub name of the pretrained BERT (data/chinese_L-12_H-768_A-12)
#   BUSINESS       a labelled file of another domain to evaluate as well (none)
#   PAIRS          number of training examples, a random sample (all)
#   EPOCHS         epochs of every stage (the published ones)
#   SEEDS          seeds; everything is repeated for each (42)
#   LEARNING_RATE  2e-5
#   FLAGS          more flags for every training
#   OUT            folder for all output (out_tables)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/environment.sh

DATA="${DATA:-data/lcqmc}"
BERT="${BERT:-data/chinese_L-12_H-768_A-12}"
TEST="${TEST:-yes}"
BUSINESS="${BUSINESS:-}"
SEEDS="${SEEDS:-42}"
LEARNING_RATE="${LEARNING_RATE:-2e-5}"
OUT="${OUT:-out_tables}"
venv="${VENV:-.venv}"
script="$(basename "$0")"

# Prints a line if BERT is neither a folder nor, as owner/name, a model of the hub. An argument names
# a method that needs a folder: then it prints a line if BERT is not a folder.
missing_bert() {
  local place="data/README.md says where to get BERT"
  if [ -d "$BERT" ]; then
    return 1
  elif [ -n "${1:-}" ]; then
    echo "$script: BERT=$BERT: there is no such folder, which $1 needs; $place" >&2
  elif [[ ! "$BERT" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+$ || "$BERT" == data/* ]]; then
    echo "$script: BERT=$BERT: there is no such folder; $place" >&2
  else
    return 1
  fi
}

# Prints the files of a split in a folder, in any format.
files_of() {
  local file
  for file in "$1/$2".*; do
    [[ ! "${file,,}" =~ \.(txt|tsv|csv|jsonl?)$ ]] || echo "$file"
  done
}

# Prints a line if a folder has no train or no dev.
missing_data() {
  local dev
  dev="$(files_of "$1" dev)$(files_of "$1" dev_matched)"  # MNLI's name of it.
  if [ -n "$(files_of "$1" train)" ] && [ -n "$dev" ]; then
    return 1
  fi
  echo "$script: DATA=$1: holds no train and dev; data/README.md says where to get them" >&2
}

# Exits with one line for each missing file or folder; its argument is missing_bert's.
require() {
  local missing=0
  if missing_data "$DATA"; then
    missing=1
  fi
  if missing_bert "${1:-}"; then
    missing=1
  fi
  if [ -n "$BUSINESS" ] && [ ! -f "$BUSINESS" ]; then
    echo "$script: BUSINESS=$BUSINESS: there is no such file" >&2
    missing=1
  fi
  [ "$missing" = 0 ] || exit 1
  make_environment "$venv" requirements.txt
}

# Prints the files to evaluate besides dev, a line each.
evaluated_files() {
  [ "$TEST" = no ] || files_of "$DATA" test | head -n 1
  [ -z "$BUSINESS" ] || echo "$BUSINESS"
}

# once RESULT COMMAND...: runs a command of the program that makes the file or folder RESULT, unless
# the same command has made it already.
once() {
  if [ -e "$1" ] && [ "$(cat "$1.done" 2>/dev/null)" = "${*:2}" ]; then
    return
  fi
  mkdir -p "$(dirname "$1")"
  echo "== $1"
  "$venv/bin/python" "${@:2}"
  echo "${*:2}" >"$1.done"
}

# train STAGE FOLDER EPOCHS FLAGS...: trains a stage (0, 1 or 2) for the published number of epochs,
# or for $EPOCHS, and evaluates it.
train() {
  local stage="$1" folder="$2" epochs="${EPOCHS:-$3}" flag=() evaluated
  evaluated="$(evaluated_files | paste -sd ,)"
  [ "$stage" != 0 ] || flag=(--finetune_pre)
  [ "$stage" != 2 ] || flag=(--finetune_suc)
  local command=(run_classifier.py --do_train --do_eval "${flag[@]}" --data_dir="$DATA"
    --bert_pretrained_model="$BERT" --learning_rate="$LEARNING_RATE" --num_train_epochs="$epochs"
    --stage_"$stage"_outputdir="$folder" --cache_dir="$OUT/cache" "${@:4}")
  [ -z "${PAIRS:-}" ] || command+=(--max_train_examples="$PAIRS")
  [ -z "$evaluated" ] || command+=(--eval_files="$evaluated")
  # shellcheck disable=SC2206  # Several flags in one variable.
  [ -z "${FLAGS:-}" ] || command+=($FLAGS)
  once "$folder" "${command[@]}"
}
