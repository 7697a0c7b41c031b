#!/usr/bin/env bash
# Test on several GPUs; without any, on as many CPU processes.
#   tools/dist_test.sh CONFIG [CHECKPOINT] GPUS [ARGUMENTS OF tools/test.py]
# Without CHECKPOINT for protocols that fit their own probe: tools/dist_test.sh CONFIG GPUS --pretrained CHECKPOINT
# Several machines: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and, where 29500 is taken, PORT.
set -e
if [[ $# -lt 2 || ! ($2 =~ ^[0-9]+$ || $3 =~ ^[0-9]+$) ]]; then
    echo "usage: $0 CONFIG [CHECKPOINT] GPUS [ARGUMENTS OF tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=()
if [[ ! $2 =~ ^[0-9]+$ ]]; then
    CHECKPOINT=("$2")
    shift
fi
GPUS=$2
shift 2
TOOLS=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

if [ "${NNODES:-1}" = 1 ] && [ -z "$PORT" ]; then
    RENDEZVOUS=(--standalone)  # picks a free port
else
    RENDEZVOUS=(--nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}"
                --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m mmmim.utils.launch "${RENDEZVOUS[@]}" --nproc-per-node "$GPUS" \
    "$TOOLS/test.py" "$CONFIG" "${CHECKPOINT[@]}" --launcher pytorch "$@"
