#!/bin/sh
# Runs the test programs given and sums up what Check counted. Ends with "N passed, N failed".

# threads that spin at barriers cost many times the tests where cores are shared
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
passed=0 failed=0 broken=0 skipped=
for t in "$@"; do
    out=$(cd "$(dirname "$0")/.." && GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-2000} "$t" 2>&1)
    code=$?
    line=$(printf '%s\n' "$out" | grep -E '^[0-9]+%: Checks: ' | tail -1)
    n=$(printf '%s' "$line" | sed -n 's/.*Checks: \([0-9]*\).*/\1/p')
    f=$(printf '%s' "$line" | sed -n 's/.*Failures: \([0-9]*\).*/\1/p')
    e=$(printf '%s' "$line" | sed -n 's/.*Errors: \([0-9]*\).*/\1/p')
    if [ -z "$n" ]; then
        broken=$((broken + 1))
        printf '%s: no result (exit %s)\n%s\n' "$t" "$code" "$out"
        continue
    fi
    bad=$((f + e)) passed=$((passed + n - f - e)) failed=$((failed + f + e))
    [ "$bad" -eq 0 ] && [ "$code" -ne 0 ] && broken=$((broken + 1))
    if [ "$bad" -ne 0 ] || [ "$code" -ne 0 ]; then
        printf '%s\n' "$out"
    else
        printf '%s: %s\n' "$t" "$line"
    fi
    skip=$(printf '%s\n' "$out" | grep -E '^skip') || continue # a skip says why
    printf '%s\n' "$skip"
    skipped="$skipped$t: $skip
"
done
[ -z "$skipped" ] || printf 'not tested here:\n%s' "$skipped"
failed=$((failed + broken))
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
