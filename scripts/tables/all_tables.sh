#!/usr/bin/env bash
# All tables, one after the other, and the report. Stopped anywhere and run again, it resumes. The
# variables are in scripts/tables/tables.sh and scripts/tables/controls.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The times first: they take minutes, and want BERT as a folder, as the controls do at the end.
for name in inference_speed lcqmc_6_layers lcqmc_2_layers lcqmc_other paper_recipe controls; do
  bash "scripts/tables/$name.sh"
done
