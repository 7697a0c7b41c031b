#!/usr/bin/env bash
# Train as a Slurm job, which goes on by itself when its time is over.
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SAVE_SECONDS=300] [REQUEUE=1] [SRUN_ARGS=...] \
#       tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF tools/train.py]
# SAVE_SECONDS before its limit Slurm sends SIGUSR1; the training saves and ends with status 138. Then, unless REQUEUE=0
# or nothing was saved since the start, it goes on with --resume: on a login node this script asks for a new job, in a
# batch job (sbatch --signal=USR1@300 --requeue --wrap 'tools/slurm_train.sh ...') it requeues that job.
set -e
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
shift 4
TOOLS=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/common.sh
source "$TOOLS/common.sh"
resources
SAVE_SECONDS=${SAVE_SECONDS:-300}
check_number SAVE_SECONDS "$SAVE_SECONDS" 1 65535
REQUEUE=${REQUEUE:-1}
check_number REQUEUE "$REQUEUE" 0 1
check_number SLURM_RESTART_COUNT "${SLURM_RESTART_COUNT:-0}" 0 999999999
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

train() {
    SAVED_BEFORE=$(cat "$WORK_DIR/last_checkpoint" 2>/dev/null || true)
    STATUS=0
    (
        set -x
        srun "${RESOURCES[@]}" --signal="USR1@$SAVE_SECONDS" \
            "${PYTHON:-python}" -u "$TOOLS/train.py" "$CONFIG" --work-dir "$WORK_DIR" --launcher slurm "$@"
    ) || STATUS=$?
}

goes_on() {
    [ "$STATUS" = 138 ] && [ "$REQUEUE" = 1 ] || return 1
    if [ "$(cat "$WORK_DIR/last_checkpoint" 2>/dev/null || true)" = "$SAVED_BEFORE" ]; then
        echo "error: the time of the job was over before anything was saved in $WORK_DIR: ask for more of it" \
            "(SRUN_ARGS='--time ...'), or set a smaller SAVE_SECONDS." >&2
        return 1
    fi
}

# The last --resume counts.
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    train "$@" --resume
else
    train "$@"
fi
while goes_on; do
    if [ -n "$SLURM_JOB_ID" ]; then
        scontrol requeue "$SLURM_JOB_ID" && exit "$STATUS"
        echo "error: job $SLURM_JOB_ID cannot be requeued: start $0 again with --resume." >&2
        break
    fi
    echo "The job's time is over and the training is saved: it goes on in a new job." >&2
    train "$@" --resume
done
exit "$STATUS"
