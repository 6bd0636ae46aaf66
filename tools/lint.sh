#!/bin/sh
# cppcheck over the sources given and codespell over the tree, where they are installed.
# usage: tools/lint.sh BUILD SOURCE...
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
failed=0
if command -v cppcheck >/dev/null 2>&1; then
    mkdir -p "$build/lint/cppcheck"
    cppcheck --quiet -j "$(nproc)" --cppcheck-build-dir="$build/lint/cppcheck" --std=c11 -I. \
        --include=tools/cppcheck.h \
        -D_GNU_SOURCE -DTS_VERSION='"0"' -DTS_DEFAULT_INSTALLED='"/"' -D__x86_64__ \
        --enable=warning --inline-suppr --suppressions-list=tools/cppcheck.txt \
        --error-exitcode=1 "$@" || failed=1
else
    echo "lint: cppcheck is not installed: not run"
fi
if command -v codespell >/dev/null 2>&1; then
    data='^(weights/default|tests/fixtures|tests/fuzz/corpus)/|entities\.c$|\.(png|gif)$'
    git ls-files | grep -vE "$data" |
        xargs codespell --ignore-words tools/codespell.txt || failed=1
else
    echo "lint: codespell is not installed: not run"
fi
exit $failed
