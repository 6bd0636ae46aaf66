#!/bin/sh
# No static function has its name in two files: a backtrace or a grep finds one. Tests are free.
# Exempt are functions of the attention kernels that are written again for each instruction set.
# Another tree can be named: tools/static-names.sh FOLDER
cd "${1:-$(dirname "$0")/..}" || exit 1
exempt="exp2_16 load_row"
found=$(find backend weights attention prompts dit codecs sampler cli \
    -name '*.[ch]' -o -name '*.inc' -o -name '*.cu' -o -name '*.cuh' |
    xargs awk -v exempt="$exempt" '
    BEGIN {
        n = split(exempt, list, " ")
        for (i = 1; i <= n; i++) free[list[i]] = 1
    }
    /^(static|TS_DEV|__global__) / {
        line = $0
        gsub(/__launch_bounds__\([^)]*\) */, "", line)
        gsub(/__attribute__\(\([^)]*(\([^)]*\))?[^)]*\)\) */, "", line)
        sub(/[=;].*/, "", line)
        # clang-format puts a name that does not fit beside its type onto the next line
        if (line !~ /\(/ && $0 !~ /[=;{]/) {
            getline
            line = $0
        }
        if (!match(line, /[A-Za-z_][A-Za-z_0-9]*\(/)) next
        name = substr(line, RSTART, RLENGTH - 1)
        if (free[name] || seen[name, FILENAME]++) next
        where[name] = where[name] " " FILENAME
        files[name]++
    }
    END {
        for (name in files)
            if (files[name] > 1) print "static " name " is in" where[name]
    }' | sort)
[ -z "$found" ] && exit 0
echo "$found"
exit 1
