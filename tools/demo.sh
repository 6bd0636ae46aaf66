#!/bin/sh
# A clip and a picture from the default model into out/: their paths and the time they took.
set -eu
cd "$(dirname "$0")/.."
mkdir -p out
start=$(date +%s)
./tessera generate "a panda swinging on a mint background" -o out/panda.mp4 --seed 4 --overwrite
./tessera generate "a birthday cake on a purple background" -o out/cake.png --seed 5 --overwrite
echo "$(($(date +%s) - start)) seconds"
