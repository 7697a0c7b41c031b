#!/usr/bin/env bash
# Everything that this project wants to know of a GPU, in one call of about twenty minutes: the speed of the largest
# recipe in bfloat16 and compiled, and what a ViT-S learns from FashionScenes at 64 px.
#
#   tools/misc/gpu_results.sh OUT
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath -m "${1:?Usage: tools/misc/gpu_results.sh OUT}")
mkdir -p "$out"

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$out/gpu.txt"
python -c 'import torch; print("torch", torch.__version__)' | tee -a "$out/gpu.txt"

python tools/analysis_tools/benchmark_train.py configs/capi/vitl14.py --batch 512 --profile 5 \
    --cfg-options +compile=True | tee "$out/vitl14.txt"

for method in capi mae; do
    python tools/train.py "configs/$method/small_gpu.py" --work-dir "$out/$method"
    last=$(ls -t "$out/$method"/iter_*.pth | head -n 1)
    python tools/analysis_tools/score_fashion_scenes.py "$last" --subset multi --out "$out/$method.json" \
        | tee "$out/$method.txt"
    python tools/analysis_tools/score_fashion_scenes.py "configs/$method/small_gpu.py" --subset multi \
        --out "$out/random_$method.json" | tee "$out/random_$method.txt"
done
