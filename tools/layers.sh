#!/bin/sh
# Includes point downward: backend <- weights <- attention <- {prompts, dit, codecs} <- sampler <- cli.
# The three in braces never include each other; cli sees only tessera.h, base.h and the small files of
# backend/ that know nothing but the C library; only backend knows its devices; only cli prints, exits
# and reads the environment.
cd "$(dirname "$0")/.." || exit 1
found=$(mktemp) || exit 1
trap 'rm -f "$found"' EXIT
includes() { grep -HE '^ *# *include "' "$@" /dev/null | sed -n 's/^\([^:]*\): *# *include "\([^"]*\)".*/\1 \2/p'; }
allow() { # folder, folders it may include
    includes $(find "$1" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh') | while read -r f i; do
        case $i in */*) dir=${i%%/*} ;; base.h) dir=backend ;; tessera.h) dir=sampler ;; *) dir=$1 ;; esac
        case " $1 $2 " in *" $dir "*) ;; *) echo "$f includes $i: $1 may include only: $1 $2" ;; esac
    done >>"$found"
}
allow backend ""
allow weights "backend"
allow attention "backend weights"
allow prompts "backend weights attention"
allow dit "backend weights attention"
allow codecs "backend weights attention"
allow sampler "backend weights attention prompts dit codecs"
small="backend/clock.h backend/err.h backend/file_new.h backend/hash.h backend/median.h"
small="$small backend/number.h backend/suffix.h"
includes $small | while read -r f i; do
    case " base.h $small " in *" $i "*) ;; *) echo "$f includes $i: it is to know nothing but the C library" ;; esac
done >>"$found"
includes cli/*.[ch] cli/*/*.[ch] | while read -r f i; do
    case " base.h tessera.h $small " in *" $i "*) continue ;; esac
    case $i in cli/*) ;; *) echo "$f includes $i: cli may include only tessera.h, base.h, cli/, $small" ;; esac
done >>"$found"
grep -rnE '#include "backend/(cpu|cuda)/|ts_(cpu|cuda)_' weights attention prompts dit codecs \
    sampler cli >>"$found"
grep -rnE '(^|[^a-z_])(getenv|exit|printf|puts|perror) *\(' backend weights attention prompts dit codecs sampler --include='*.c' | grep -v '__attribute__' >>"$found"
# threads are a device's
grep -rnE '# *pragma omp|[<"]omp\.h[>"]|(^|[^a-z_])omp_[a-z]' weights attention prompts dit codecs \
    sampler cli --include='*.[ch]' >>"$found"
cat "$found"
[ ! -s "$found" ]
