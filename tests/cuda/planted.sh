#!/bin/sh
# Faults planted in the kernels one at a time: the tests named beside each must fail.
# usage: EMU_KERNEL="compile a kernel" EMU_LINK="link with" tests/cuda/planted.sh BUILD [FILE]
cd "$(dirname "$0")/../.." || exit 1
build=$1
only=$2
to=$build/emu/planted-sources
passed=0 failed=0
mkdir -p "$to"
plant() { # FILE.cu, test, what, sed expression
    [ -n "$only" ] && [ "$only" != "$1" ] && return
    from=backend/cuda/$1
    sed "$4" "$from" >"$to/$1" || exit 1
    if cmp -s "$from" "$to/$1"; then
        echo "planted: $1: $3: nothing was changed by $4"
        failed=$((failed + 1))
        return
    fi
    if ! $EMU_KERNEL -c -o "$to/fault.o" "$to/$1" ||
        ! $EMU_LINK -o "$to/fault" "$build/emu/tests/cuda/$2.o" "$to/fault.o" $EMU_LIBS; then
        echo "planted: $1: $3: does not build"
        failed=$((failed + 1))
    elif "$to/fault" >"$to/log" 2>&1; then
        echo "planted: $1: $3: was not found"
        failed=$((failed + 1))
    else
        echo "planted: $1: $3: $(grep -m1 -E ':[FE]:' "$to/log" | cut -c 1-150)"
        passed=$((passed + 1))
    fi
}
plant rows.cu test_rows "no barrier before a sum's place is used again" \
    '/the last sum has been read/d'
plant rows.cu test_rows "one step of a warp's sum is missing" \
    '/TS_DEV float add_lanes/,/^}/s/d = 16/d = 8/'
plant rows.cu test_rows "rope turns the other way" 's/a \* c\[k \/ 2\] - b/a * c[k \/ 2] + b/'
plant rows.cu test_rows "the gate of row 0 for every row" 's/sel ? sel\[m\] : 0/0/'
plant rows.cu test_rows "a piece's mean is not merged" \
    's/ + weight(i) \* (p.x - mean) \* (p.x - mean)//'
plant rows.cu test_rows "one row too many" 's/if (m >= a.rows) return;/if (m > a.rows) return;/'
plant copy.cu test_move "no barrier between the halves of a tile" '/__syncthreads();/d'
plant copy.cu test_move "vectors where rows are not aligned" \
    's/labs(p->ss\[i\]), 2, V)/labs(p->ss[i]), 1, V)/'
plant copy.cu test_move "the end of a run is forgotten" 's/V == 1 || c + V <= run/true/'
plant move.cu test_move "the product is not rounded" \
    's/__fadd_rn(__fmul_rn(x\[k\], s\[k\]), b\[k\])/fmaf(x[k], s[k], b[k])/'
plant move.cu test_move "sine and cosine in each other's place" 's/, i & 1));/, !(i \& 1)));/'
plant move.cu test_move "an id that is none is read" 's/id >= 0 \&\& id < V/id < V/'
plant move.cu test_move "infinity passes for finite" 's/< 0xFF000000u/<= 0xFF000000u/'
plant move.cu test_move "a late frame is dropped" 's/f \* ft + a - drop/f * ft + a/'
plant topk.cu test_topk "zeros of two signs" '/u == 0x80000000u/d'
plant topk.cu test_topk "NaN loses its sign" '/> 0x7F800000/s/u |= 0x400000/u = 0x7FC00000/'
plant topk.cu test_topk "ties go to the last lane" 's/(1u << lane) - 1/~(1u << lane)/'
plant topk.cu test_topk "no __syncwarp before a tile is summed" '0,/__syncwarp();/s///'
plant topk.cu test_topk "heads of equal recall: the higher one first" 's/ && g < h/ \&\& g > h/'
plant topk.cu test_topk "sums in f32" 's/double kept = 0, all = 0/float kept = 0, all = 0/'
plant topk.cu test_topk "heads that were not asked for" 's/(!a.who || a.who\[h\] == a.which) && //'
plant topk.cu test_topk "recalls are of scores, not of weights" 's/a.weight\[from/a.score[from/'
plant rest.cu test_rest "the last block counts as a whole one" 's/(float)left/64.0f/'
plant rest.cu test_rest "errors of blocks that were not computed" \
    's/ % a.blocks \* a.every;/ % a.blocks;/'
plant rest.cu test_rest "ties go to the last candidate" \
    's/< a.error\[least \* a.ld + h\])/<= a.error[least * a.ld + h])/'
plant search.cu test_rest "what a pooled key counts is forgotten" \
    's/ts_log2_tokens(p.Nq, p.Nk, key) - 6/0.0f/'
plant search.cu test_rest "two columns of queries swapped" \
    's/q.of\[i\]\[d\]\[1\], q.of\[i\]\[d\]\[3\]/q.of[i][d][3], q.of[i][d][1]/'
plant search.cu test_rest "no barrier between tiles of pooled keys" \
    '/take_keys(/,/^}/s/__syncthreads();//'
plant attention_f32.cu test_gpu_attention "what a row reads counts twice" \
    's/!left.has(tx + 16 \* c)/false/'
plant flash.cu test_flash "what a row reads counts twice" '/if (!out.has(i)) tokens = -INFINITY;/d'
plant flash.cu test_flash "the form of head 0 for all" \
    's/__ldg(p.form + head)/__ldg(p.form + 0 * head)/'
plant rest_linear.cu test_rest "M of the wrong query block" \
    's/\[place \* square/[0 * square/'
plant rest_tensor.cu test_rest "values without their mean taken off" \
    's/v\[2 \* k + 1\] - m\[2 \* k + 1\]/v[2 * k + 1]/'
plant rest_tensor.cu test_rest "no barrier between stages" \
    '/mix_blocks(ts/,/^}/s/__syncthreads();//'
plant rest_tensor.cu test_rest "two registers of a fragment swapped" \
    's/fb\[2\], fb\[3\]/fb[3], fb[2]/'
echo "$passed planted faults found, $failed not"
[ "$failed" -eq 0 ]
