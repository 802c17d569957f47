#!/usr/bin/env bash
# Plants bugs in a copy of what is committed, one at a time, and expects the test of faults to fail for each; of those
# that no seed can meet, a test of their own.
# Production carries none of it: `bugs.patch` adds them, each behind a name in DATOMFUSION_PLANTED, so that one
# build serves for all.
set -euo pipefail
cd "$(dirname "$0")/../.."
seeds="${1:-1000}"
here="$PWD"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
git clone --quiet --shared . "$scratch/copy"
cd "$scratch/copy"
git apply "$here/tests/planted/bugs.patch"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$here/target/planted}"
built="$(cargo test -p datomfusion --no-default-features --features fs,conformance --lib --no-run 2>&1 | tee /dev/stderr)"
test="$(sed -n 's/.*Executable .*(\(.*\))$/\1/p' <<<"$built" | tail -n 1)"
case "$test" in /*) ;; *) test="$PWD/$test" ;; esac

export DATOMFUSION_FAULT_SEEDS="$seeds"
find() { DATOMFUSION_PLANTED="$1" "$test" whatever_fails >"$scratch/said" 2>&1; }
# A disk that loses what was not synced, and a pack that is put at the very end, are not in the weather; two writers that
# write the same node, one of whom gives up, meet once in two thousand seeds.
own="a_request_that_fails_once_leaves_the_old_head what_is_confirmed_is_on_the_disk a_writer_that_gives_up"
# shellcheck disable=SC2086
find_by_own() { DATOMFUSION_PLANTED_AT_ONCE=1 DATOMFUSION_PLANTED="$1" "$test" $own >"$scratch/said" 2>&1; }

if ! find nothing || ! find_by_own nothing; then
    tail -n 40 "$scratch/said"
    echo "without a bug: it fails"
    exit 1
fi
echo "without a bug: it holds"
missed=0
for bug in $(sed -n 's/^+.*planted("\([a-z-]*\)").*/\1/p' tests/planted/bugs.patch | sort -u); do
    if find "$bug"; then
        if find_by_own "$bug"; then
            echo "$bug: NOT FOUND in $seeds seeds"
            missed=1
        else
            echo "$bug: found, $(sed -n 's/^test .*::\([a-z_]*\) \.\.\. FAILED$/\1/p' "$scratch/said")"
        fi
    elif seed="$(grep -o -m 1 '^seed [0-9][0-9]*' "$scratch/said")"; then
        echo "$bug: found, $seed"
    else
        tail -n 40 "$scratch/said"
        echo "$bug: it failed, and at no seed"
        missed=1
    fi
done
exit "$missed"
