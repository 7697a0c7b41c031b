#!/usr/bin/env bash
# Test on several GPUs; without any, on as many CPU processes.
#   tools/dist_test.sh CONFIG [CHECKPOINT] GPUS [ARGUMENTS OF tools/test.py]
# Without CHECKPOINT for protocols that fit their own probe: tools/dist_test.sh CONFIG GPUS --pretrained CHECKPOINT
# Several machines: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and, where 29500 is taken, PORT.
set -e
if [[ $# -lt 2 || ! ($2 =~ ^[0-9]+$ || $3 =~ ^[0-9]+$) ]]; then
    echo "usage: $0 CONFIG [CHECKPOINT] GPUS [ARGUMENTS OF tools/test.py]" >&2
    if [ $# -gt 1 ]; then
        echo "error: '$2'${3+ and '$3'} cannot be GPUS: give a whole number above 0." >&2
    fi
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
# shellcheck source=tools/common.sh
source "$TOOLS/common.sh"
rendezvous
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

exec "${PYTHON:-python}" -m mmmim.cli.launch "${RENDEZVOUS[@]}" \
    "$TOOLS/test.py" "$CONFIG" "${CHECKPOINT[@]}" --launcher pytorch "$@"
