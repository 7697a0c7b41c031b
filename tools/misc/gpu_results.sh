#!/usr/bin/env bash
# Everything that this project wants to know of a GPU, in two calls of at most eight minutes each.
#
#   tools/misc/gpu_results.sh speed OUT       steps of the full recipes in bfloat16: eager, compiled, in micro-batches
#   tools/misc/gpu_results.sh learning OUT    what a ViT-S learns from FashionScenes at 64 px
set -euo pipefail
cd "$(dirname "$0")/../.."
usage='Usage: tools/misc/gpu_results.sh speed|learning OUT'
what=${1:?$usage}
out=$(realpath -m "${2:?$usage}")
mkdir -p "$out"

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$out/gpu.txt"
python -c 'import torch; print("torch", torch.__version__)' | tee -a "$out/gpu.txt"

case $what in
speed)
    python tools/analysis_tools/benchmark_variants.py configs/capi/vitl14.py configs/latent_mim/vitb16.py \
        configs/pilamim/vitb16.py configs/mae/vitb16.py --minutes 7 --out "$out"
    ;;
learning)
    for method in capi mae; do
        python tools/train.py "configs/$method/small_gpu.py" --work-dir "$out/$method"
        last=$(ls -t "$out/$method"/iter_*.pth | head -n 1)
        python tools/analysis_tools/score_fashion_scenes.py "$last" --subset multi --out "$out/$method.json" \
            | tee "$out/$method.txt"
        python tools/analysis_tools/score_fashion_scenes.py "configs/$method/small_gpu.py" --subset multi \
            --out "$out/random_$method.json" | tee "$out/random_$method.txt"
    done
    ;;
*)
    echo "$usage" >&2
    exit 2
    ;;
esac
