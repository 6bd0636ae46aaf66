#!/bin/sh
# Prints the command of one of LLVM's tools whose version is 14, the one whose format and checks the
# tree follows; nothing when it is not installed.
# usage: tools/find-clang.sh clang-format|clang-tidy
for name in "$1-14" "$1"; do
    command -v "$name" >/dev/null 2>&1 || continue
    "$name" --version 2>/dev/null | grep -q 'version 14\.' || continue
    echo "$name"
    exit
done
