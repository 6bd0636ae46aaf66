#!/bin/sh
# Test programs under ThreadSanitizer, built by clang: LLVM's OpenMP tells the sanitizer of its
# barriers through Archer, gcc's does not. Other libraries are not instrumented and bring an OpenMP
# of their own: what only they do is left out.
# usage: tools/tsan.sh BUILD TEST...
set -eu
cd "$(dirname "$0")/.."
build=$1
shift
clang=$(tools/find-clang.sh clang)
archer=$(find /usr/lib/llvm-14/lib -name libarcher.so 2>/dev/null | head -1)
if [ -z "$clang" ] || [ -z "$archer" ]; then
    echo "tsan: needs clang 14 and its OpenMP (make deps-lint): not run"
    exit 0
fi
programs=
for t in "$@"; do programs="$programs $build/$t"; done
# shellcheck disable=SC2086
make --no-print-directory -j"$(nproc)" CC="${CCACHE:-} $clang" B="$build" \
    CFLAGS="-O1 -g -fsanitize=thread -Wno-unknown-warning-option" \
    LDFLAGS="-fsanitize=thread -Wl,-rpath,$(dirname "$archer")" $programs
export OMP_TOOL_LIBRARIES="$archer" ARCHER_OPTIONS="verbose=0"
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 suppressions=$PWD/tests/tsan.supp"
# shellcheck disable=SC2086
sh tests/run.sh $programs
