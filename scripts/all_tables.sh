#!/usr/bin/env bash
# All tables, one after the other, and the report. Stopped anywhere and run again, it resumes. The
# variables are in scripts/tables.sh and scripts/controls.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
for name in lcqmc_6_layers lcqmc_2_layers lcqmc_other inference_speed paper_recipe controls; do
  bash "scripts/$name.sh"
done
