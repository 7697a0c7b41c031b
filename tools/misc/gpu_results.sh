#!/usr/bin/env bash
# Everything that this project wants to know of a GPU, in one call of at most ten minutes.
#
#   tools/misc/gpu_results.sh all OUT         both of the following, in half of the time each
#   tools/misc/gpu_results.sh speed OUT       steps of four full recipes in bfloat16: eager, compiled, in micro-batches
#   tools/misc/gpu_results.sh learning OUT    what a ViT-S learns from FashionScenes at 64 px
set -euo pipefail
cd "$(dirname "$0")/../.."
usage='Usage: tools/misc/gpu_results.sh all|speed|learning OUT'
what=${1:?$usage}
out=$(realpath -m "${2:?$usage}")
case $what in
all) minutes=4 ;;
speed | learning) minutes=8 ;;
*)
    echo "$usage" >&2
    exit 2
    ;;
esac
mkdir -p "$out"

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$out/gpu.txt"
python -c 'import torch; print("torch", torch.__version__)' | tee -a "$out/gpu.txt"

if [ "$what" != learning ]; then
    python tools/analysis_tools/benchmark_variants.py configs/capi/vitl14.py configs/latent_mim/vitb16.py \
        configs/pilamim/vitb16.py configs/mae/vitb16.py --minutes "$minutes" --out "$out" \
        --cfg-options optim_wrapper.dtype=bfloat16
fi
if [ "$what" != speed ]; then
    for method in capi mae; do
        config=configs/$method/small_gpu.py
        python tools/analysis_tools/benchmark_train.py "$config" --data --steps 20 --json "$out/step_$method.json"
        # As many iterations as fit into a third of the time, at most those of the recipe: the rest is for scores.
        iterations=$(python - "$out/step_$method.json" "$minutes" "$config" <<'PYTHON'
import json
import sys

from mmengine.config import Config

step, minutes, config = sys.argv[1:]
seconds = json.load(open(step))['seconds']['iteration']
print(max(100, min(Config.fromfile(config).train_cfg.max_iters, int(float(minutes) * 20 / seconds))))
PYTHON
        )
        python tools/train.py "$config" --work-dir "$out/$method" --cfg-options "train_cfg.max_iters=$iterations" \
            "default_hooks.checkpoint.interval=$iterations"
        python tools/analysis_tools/score_fashion_scenes.py "$out/$method/iter_$iterations.pth" --subset multi \
            --out "$out/$method.json" | tee "$out/$method.txt"
        python tools/analysis_tools/score_fashion_scenes.py "$config" --subset multi --out "$out/random_$method.json" \
            | tee "$out/random_$method.txt"
    done
fi
