#!/bin/sh
# Sources as clang-format 14 leaves them (where it is installed), and no line of C, shell, Python or
# make longer than 100 columns, a tab being eight.
cd "$(dirname "$0")/.." || exit 1
failed=0
files() {
    git ls-files "$@" 2>/dev/null | grep . ||
        for f in "$@"; do find . -path ./build -prune -o -name "$f" -print; done
}
format=$(tools/find-clang.sh clang-format)
if [ -n "$format" ]; then
    files '*.c' '*.h' '*.cpp' '*.cu' '*.cuh' '*.inc' | xargs "$format" --dry-run -Werror || failed=1
else
    echo "format-check: clang-format 14 is not installed: only the length of lines is checked"
fi
for f in $(files '*.c' '*.h' '*.cpp' '*.cu' '*.cuh' '*.inc' '*.sh' '*.py' Makefile); do
    expand -t 8 "$f" | LC_ALL=C.UTF-8 grep -nE '^.{101,}' | cut -c 1-80 |
        sed "s|^|$f: more than 100 columns: |"
done | grep . && failed=1
exit $failed
