#!/bin/sh
# CUDA's compiler, runtime, cuBLASLt and cuDNN out of NVIDIA's Python wheels, where no toolkit is
# installed: about 3 GB in FOLDER, which CUDA_HOME then names. Needs python3 with pip.
# usage: tools/cuda-wheels.sh [FOLDER]      (build/cuda-wheels)
set -eu
cd "$(dirname "$0")/.."
to=${1:-build/cuda-wheels}
python3 -m pip --version >/dev/null 2>&1 || {
    echo "cuda-wheels: python3 has no pip (Debian: python3-pip)" >&2
    exit 1
}
mkdir -p "$to"
to=$(cd "$to" && pwd)

# nvcc of the version that tests/cuda/registers.txt is of and what it calls, headers and the static
# runtime, the two libraries that are loaded, and
# what looks at the compiled code.
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade \
    --target "$to" \
    'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' \
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas>=13,<14' \
    'nvidia-cudnn-cu13>=9' 'nvidia-cuda-cuobjdump>=13,<14' 'nvidia-cuda-nvdisasm>=13,<14'

# One folder as a toolkit is laid out: cuDNN beside the rest, lib64 as well as lib.
home=$to/nvidia/cu13
[ -x "$home/bin/nvcc" ] || {
    echo "cuda-wheels: $home/bin/nvcc is not there: the wheels are laid out otherwise" >&2
    exit 1
}
[ -e "$home/lib64" ] || ln -s lib "$home/lib64"
for f in "$to"/nvidia/cudnn/include/*.h; do ln -sf "$f" "$home/include/"; done
for f in "$to"/nvidia/cudnn/lib/*.so.*; do ln -sf "$f" "$home/lib/"; done
echo "make CUDA=1 CUDA_HOME=$home"
