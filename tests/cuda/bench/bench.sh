#!/bin/sh
# make bench-cuda: PyTorch's attention first where python3 has it and it sees a GPU, then all else.
# usage: tests/cuda/bench/bench.sh FOLDER      writes FOLDER/bench-cuda.json
cd "$(dirname "$0")/../../.." || exit 1
at=$1
torch=
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    timeout 120 python3 tests/cuda/bench/torch_attention.py >"$at/torch.txt" &&
        torch="--torch $at/torch.txt"
else
    echo "PyTorch is not here, or sees no GPU: attention is not compared with its"
fi
# shellcheck disable=SC2086 # two words or none
"$at/bench_cuda" --json "$at/bench-cuda.json" $torch
code=$?
echo "$at/bench-cuda.json"
exit $code
