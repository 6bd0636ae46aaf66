#!/bin/sh
# What nvcc made of the CUDA kernels, against tests/cuda/registers.txt: registers and shared memory
# of each kernel and architecture, no spills; and the instructions of the kernels of tensor cores,
# where cuobjdump is installed (CUOBJDUMP names another).
# usage: tools/cuda-check.sh check|update NVCC OBJECT...
# Beside each OBJECT lies OBJECT.ptxas, what ptxas said of it.
cd "$(dirname "$0")/.." || exit 1
table=tests/cuda/registers.txt
mode=$1
nvcc=$2
shift 2
found=$(mktemp) || exit 1
sass=$(mktemp) || exit 1
trap 'rm -f "$found" "$sass"' EXIT
version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')

# ARCH REGISTERS SHARED KERNEL, of demangled names without their arguments
for o in "$@"; do cat "$o.ptxas"; done | c++filt | awk '
    /Compiling entry function/ {
        arch = $NF
        gsub(/[^a-z0-9_]/, "", arch)
        name = $0
        sub(/^[^\047]*\047/, "", name)
        sub(/\047 for \047.*/, "", name)
        gsub(/\(anonymous namespace\)::/, "", name)
        sub(/^void /, "", name)
        sub(/\(.*/, "", name)
        gsub(/ /, "", name)
    }
    /bytes spill stores/ { spills = $0; gsub(/^ +/, "", spills) }
    /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+/)
        registers = substr($0, RSTART + 5, RLENGTH - 5)
        shared = 0
        if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
        printf "%s %d %d %s\n", arch, registers, shared, name
        if (spills !~ /^0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/)
            print "cuda: " arch " " name ": " spills > "/dev/stderr"
    }' 2>"$found.spills" | LC_ALL=C sort -k4,4 -k1,1 >"$found"
failed=0
if [ -s "$found.spills" ]; then
    cat "$found.spills"
    failed=1
fi
rm -f "$found.spills"
if [ "$mode" = update ]; then
    { echo "# nvcc $version: architecture, registers, bytes of static shared memory, kernel"
      cat "$found"; } >"$table"
    exit $failed
fi
made=$(sed -n '1s/^# nvcc \([0-9.]*\):.*/\1/p' "$table")
awk -v same="$([ "$made" = "$version" ] && echo 1)" -v made="$made" -v version="$version" '
    /^#/ { next }
    NR == FNR { want[$1 " " $4] = $2; shared[$1 " " $4] = $3; next }
    {
        k = $1 " " $4
        seen[k] = 1
        if (!(k in want)) {
            print "cuda: " k " is not in tests/cuda/registers.txt: make cuda-registers"
            bad = 1
        } else if ($2 > want[k] || $3 != shared[k]) {
            printf "cuda: %s: %d registers, %d bytes of shared memory; in the table %d, %d%s\n",
                k, $2, $3, want[k], shared[k],
                same ? "" : " (of nvcc " made ", this is " version ")"
            if (same) bad = 1
        } else if ($2 < want[k] && same) {
            printf "cuda: %s: %d registers, %d in the table: make cuda-registers\n", k, $2, want[k]
        }
    }
    END {
        for (k in want) if (!(k in seen)) {
            print "cuda: " k " of tests/cuda/registers.txt is no kernel: make cuda-registers"
            bad = 1
        }
        exit bad
    }' "$table" "$found" || failed=1

# A warp of attend_flash multiplies MT D times a key block, half for Q K and half for P V; the loop
# is the only place of products. ldmatrix: D / 4 of K, D / 4 of V, and Q: once before (MT 1) or 2 of
# its tiles with each slice of K. A warp of sum_bf16 and pool_bf16 has 32 rows of Q in registers, by
# D / 8, and multiplies D times a key block; pool_bf16 does so in two places. Nothing lies in local
# memory.
cuobjdump=${CUOBJDUMP:-$(command -v cuobjdump || command -v "$(dirname "$nvcc")/cuobjdump")}
if [ -z "$cuobjdump" ]; then
    echo "skip: SASS of the CUDA kernels: cuobjdump is not installed"
    exit $failed
fi
for o in "$@"; do
    case $o in */flash.o | */search.o) ;; *) continue ;; esac
    "$cuobjdump" -sass "$o"
done | c++filt >"$sass"
awk '
    function judge(   a, d, mt, passes, products, loads) {
        if (name !~ /^(attend_flash|sum_bf16|pool_bf16)</) return
        d = name
        sub(/^[a-z_0-9]*</, "", d)
        split(d, a, /[,>]/)
        d = a[1] + 0
        if (name ~ /^attend/) {
            mt = a[2] + 0
            products = mt * d
            loads = d / 2 + (mt == 1 ? d / 16 : mt * d / 16)
        } else {
            passes = name ~ /^pool/ ? 2 : 1
            products = passes * d
            loads = passes * d / 4 + d / 8
        }
        checked++
        if (n["HMMA"] != products || n["LDSM"] != loads || n["LDL"] + n["STL"]) {
            printf "cuda: %s %s: HMMA %d, LDSM %d, local %d; expected %d, %d, 0\n", arch, name,
                n["HMMA"], n["LDSM"], n["LDL"] + n["STL"], products, loads
            bad = 1
        }
    }
    /^[ \t]*code for sm_/ || /^arch = / { judge(); name = ""; arch = $NF }
    /Function :/ {
        judge()
        delete n
        name = $0
        sub(/.*Function : /, "", name)
        gsub(/\(anonymous namespace\)::/, "", name)
        sub(/^void /, "", name)
        sub(/\(.*/, "", name)
        gsub(/ /, "", name)
    }
    {
        for (i = 1; i <= 4 && i <= NF; i++)
            if (match($i, /^(HMMA|LDSM|LDL|STL)(\.|$)/)) {
                op = $i
                sub(/\..*/, "", op)
                n[op]++
                break
            }
    }
    END {
        judge()
        if (!checked) { print "cuda: no SASS of the kernels was found"; bad = 1 }
        else printf "cuda: instructions of %d kernels are as expected\n", checked
        exit bad
    }' "$sass" || failed=1
exit $failed
