#!/bin/sh
# The tests of the CUDA device on a GPU, in order: instructions, kernels, the device and NVIDIA's
# libraries, whole pipelines, and the quick ones once more under compute-sanitizer.
# usage: tests/cuda/on_gpu.sh FOLDER PROGRAM...
cd "$(dirname "$0")/../.." || exit 1
at=$1
shift
failed=0
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
fi
programs=
for t in "$@"; do programs="$programs $at/$t"; done
sh tests/run.sh $programs || failed=1

if [ -x "$at/test_cuda_pipeline" ]; then
    LONG=1 sh tests/run.sh "$at/test_cuda_pipeline" || failed=1
else
    echo "SKIPPED: whole pipelines on the GPU: building them needs cJSON, utf8proc and PCRE2" \
        "(make build-check-cuda where they are, then carry $at/test_cuda_pipeline and $at/lib)"
fi

sanitizer=$(command -v compute-sanitizer || command -v "$CUDA_HOME/bin/compute-sanitizer")
if [ -z "$sanitizer" ]; then
    echo "SKIPPED: compute-sanitizer is not installed"
    exit $failed
fi
sanitize() { # tool, program
    out=$(SHORT=1 timeout 60 "$sanitizer" --tool "$1" --error-exitcode 9 "$at/$2" 2>&1)
    code=$?
    case $code in
    0) echo "$1: $2: nothing found" ;;
    124) echo "$1: $2: nothing found in the 60 s that it had" ;;
    *)
        printf '%s\n' "$out" | grep -E '=========|:F:|Checks:' | head -40
        echo "$1: $2: exit $code"
        failed=1
        ;;
    esac
}
for t in test_rows test_move test_topk test_flash test_gpu_attention test_rest; do
    sanitize memcheck "$t"
done
for t in test_flash test_rows test_topk test_rest; do sanitize racecheck "$t"; done
exit $failed
