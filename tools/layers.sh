#!/bin/sh
# Includes point downward: backend <- weights <- attention <- {prompts, dit, codecs} <- sampler <-
# cli. The three in braces never include each other; cli sees only the installed headers, which see
# only each other, and the small files of backend/ that know nothing but the C library; only backend
# knows its devices; only cli prints, exits and reads the environment. An #include names the folder:
# every file is found from the root of the tree.
cd "$(dirname "$0")/.." || exit 1
installed="backend/base.h prompts/prompt_file.h sampler/tessera.h sampler/tessera-bench.h"
small="backend/clock.h backend/err.h backend/file_new.h backend/hash.h backend/median.h"
small="$small backend/base64.h backend/nearest.h backend/number.h backend/suffix.h backend/utf8.h"
libraries="backend weights attention prompts dit codecs sampler"
found=$(mktemp) || exit 1
trap 'rm -f "$found"' EXIT
includes() {
    grep -HE '^ *# *include "' "$@" /dev/null |
        sed -n 's/^\([^:]*\): *# *include "\([^"]*\)".*/\1 \2/p'
}
sources() { find "$1" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh'; }
allow() { # folder, folders it may include
    includes $(sources "$1") | while read -r f i; do
        dir=${i%%/*}
        case " $1 $2 " in
        *" $dir "*) ;;
        *) echo "$f includes $i: $1 may include only: $1 $2" ;;
        esac
    done >>"$found"
}
only_these() { # headers, or a folder's as FOLDER/*
    while read -r f i; do
        case " $1 " in
        *" $i "* | *" ${i%%/*}/* "*) ;;
        *) echo "$f includes $i: it may include only $1" ;;
        esac
    done >>"$found"
}
allow backend ""
allow weights "backend"
allow attention "backend weights"
allow prompts "backend weights attention"
allow dit "backend weights attention"
allow codecs "backend weights attention"
allow sampler "backend weights attention prompts dit codecs"
includes $small | only_these "backend/base.h $small"
includes $(sources cli) | only_these "$installed $small cli/*"
includes $installed | only_these "$installed"
grep -rnE '#include "backend/(cpu|cuda)/|ts_(cpu|cuda)_' weights attention prompts dit codecs \
    sampler cli >>"$found"
grep -rnE '(^|[^a-z_])(getenv|exit|printf|puts|perror) *\(' $libraries --include='*.c' |
    grep -v '__attribute__' >>"$found"
# threads are a device's
grep -rnE '# *pragma omp|[<"]omp\.h[>"]|(^|[^a-z_])omp_[a-z]' weights attention prompts dit codecs \
    sampler cli --include='*.[ch]' >>"$found"
cat "$found"
[ ! -s "$found" ]
