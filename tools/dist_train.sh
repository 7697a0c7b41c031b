#!/usr/bin/env bash
# Train on several GPUs; without any, on as many CPU processes.
#   tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]
# Several machines: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and, where 29500 is taken, PORT.
# SIGTERM, SIGUSR1 and Ctrl-C reach all processes: they save and end, with status 128 + signal.
set -e
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [ARGUMENTS OF tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
shift 2
TOOLS=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/common.sh
source "$TOOLS/common.sh"
rendezvous
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

exec "${PYTHON:-python}" -m mmmim.cli.launch "${RENDEZVOUS[@]}" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "$@"
