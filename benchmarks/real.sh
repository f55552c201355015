#!/usr/bin/env bash
# Goes from data in the challenge's layout to a submission: benchmarks/real.sh DATA_ROOT WEIGHTS OUT
# WEIGHTS is EdgeFace-XS as safetensors (see configs/edgeface-cpu.yaml). On two CPU cores it takes
# under an hour for 6,000 training images.
set -euo pipefail
if [ $# -ne 3 ]; then
    echo "usage: $0 DATA_ROOT WEIGHTS OUT" >&2
    exit 2
fi
data=$(realpath "$1") weights=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
began=$SECONDS
settings=(--config configs/edgeface-cpu.yaml --recognition.backbone.weights "$weights")
settings+=(--cache "$out/crops")
if [ ! -f "$out/tables/train.csv" ]; then
    "$python" -m kryptonite prepare "${settings[@]}" --data.root "$data" --out "$out/tables" --clean
fi
"$python" train.py "${settings[@]}" --data.root "$out/tables" --run "$out"
"$python" make_submission.py --run "$out" --data_root "$data" --cache "$out/crops" \
    --out "$out/submission.csv"
echo "real: $out/submission.csv in $((SECONDS - began)) s"
