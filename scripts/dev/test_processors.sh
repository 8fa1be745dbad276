#!/usr/bin/env bash
# Runs the tests as on older x86-64 processors: it limits the processor features that oneDNN, XLA and
# OpenBLAS use for products. It also runs them with one thread. (Eigen cannot be limited: a wheel of
# TensorFlow contains only one build of it.)
#
#   bash scripts/dev/test_processors.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")/../.."
settings=(
  "ONEDNN_MAX_CPU_ISA=AVX2 XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell"
  "ONEDNN_MAX_CPU_ISA=SSE41 XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 OPENBLAS_CORETYPE=Nehalem"
  "TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
)
for setting in "${settings[@]}"; do
  echo "== $setting"
  # shellcheck disable=SC2086  # Several variables in one string.
  env $setting bash scripts/test.sh "$@"
done
