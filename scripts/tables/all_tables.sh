#!/usr/bin/env bash
# Makes all tables, one after the other, and the report. After an interruption the same command
# resumes. The variables are in scripts/tables/tables.sh and scripts/tables/controls.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The times come first: they take minutes and, like the controls at the end, need BERT as a folder.
for name in inference_speed lcqmc_6_layers lcqmc_2_layers lcqmc_other paper_recipe controls; do
  bash "scripts/tables/$name.sh"
done
