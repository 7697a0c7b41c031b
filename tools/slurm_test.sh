#!/usr/bin/env bash
# Test as a Slurm job.
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       tools/slurm_test.sh PARTITION JOB_NAME CONFIG [CHECKPOINT] [ARGUMENTS OF tools/test.py]
# Without CHECKPOINT for protocols that fit their own probe, which take --pretrained CHECKPOINT.
set -e
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [CHECKPOINT] [ARGUMENTS OF tools/test.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3
TOOLS=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/common.sh
source "$TOOLS/common.sh"
resources
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

set -x
srun "${RESOURCES[@]}" "${PYTHON:-python}" -u "$TOOLS/test.py" "$CONFIG" "$@" --launcher slurm
