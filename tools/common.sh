# shellcheck shell=bash
# Sourced by the scripts beside it.

# check_number NAME VALUE LEAST MOST: ends the script unless VALUE is a whole number from LEAST to MOST.
check_number() {
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || (($2 < $3 || $2 > $4)); then
        echo "error: $1 is '$2': give a whole number from $3 to $4." >&2
        exit 2
    fi
}

# Arguments of torchrun in RENDEZVOUS, from GPUS, NNODES, NODE_RANK, MASTER_ADDR and PORT.
rendezvous() {
    check_number GPUS "$GPUS" 1 99999
    check_number NNODES "${NNODES:-1}" 1 99999
    if [ "${NNODES:-1}" = 1 ] && [ -z "$PORT" ]; then
        RENDEZVOUS=(--standalone)  # picks a free port
    else
        check_number NODE_RANK "${NODE_RANK:-0}" 0 "$((${NNODES:-1} - 1))"
        check_number PORT "${PORT:-29500}" 1 65535
        RENDEZVOUS=(--nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}"
                    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
    fi
    RENDEZVOUS+=(--nproc-per-node "$GPUS")
}

# Arguments of srun in RESOURCES, from GPUS, GPUS_PER_NODE, CPUS_PER_TASK, PARTITION, JOB_NAME and SRUN_ARGS.
resources() {
    GPUS=${GPUS:-8}
    check_number GPUS "$GPUS" 1 99999
    GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
    check_number GPUS_PER_NODE "$GPUS_PER_NODE" 1 "$GPUS"
    check_number CPUS_PER_TASK "${CPUS_PER_TASK:-5}" 1 99999
    # shellcheck disable=SC2206  # SRUN_ARGS holds several arguments
    RESOURCES=(-p "$PARTITION" --job-name="$JOB_NAME" --gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS"
               --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1
               ${SRUN_ARGS:-})
}
