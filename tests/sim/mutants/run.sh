#!/usr/bin/env bash
# Shows that the simulator finds bugs: applies each patch beside this file, alone, to a copy of the
# sources, and runs seeds until one fails. Ends with 1 where one is not found.
#
#   tests/sim/mutants/run.sh [NAME...]    e.g. 5-last-chunk; all without a name
#
# That all of them apply is checked by .ci/run.
# SIM_SEEDS=from..to is how far to look (0..5000); CARGO_TARGET_DIR, where to build.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(realpath "$here/../../..")
cd "$root" || exit 1

target=$(realpath -m "${CARGO_TARGET_DIR:-target}/mutants")
copy=$(mktemp -d) || exit 1
trap 'rm -rf "$copy"' EXIT
export RUST_BACKTRACE=0 SIM_FAILURES=1 SIM_SEEDS=${SIM_SEEDS:-0..5000}

names=("$@")
if ((${#names[@]} == 0)); then
    for patch in "$here"/*.patch; do
        names+=("$(basename "$patch" .patch)")
    done
fi
missed=0
for name in "${names[@]}"; do
    rm -rf "$copy/whippet"
    mkdir "$copy/whippet"
    tar -c -C "$root" --exclude=./target --exclude=./tests/fuzz --exclude=.git . |
        tar -x -C "$copy/whippet"
    cd "$copy/whippet" || exit 1
    if ! patch --quiet --batch --fuzz=0 -p1 <"$here/$name.patch"; then
        echo "$name: the patch does not apply"
        missed=1
        continue
    fi
    # Built apart from what runs it, so that a mutant that does not compile is not taken for found.
    if ! CARGO_TARGET_DIR=$target cargo test --quiet --locked --test simulated --no-run 2>build.log; then
        cat build.log
        echo "$name: does not compile"
        missed=1
        continue
    fi
    # Who fetches, where the patch says so.
    SIM_PROGRAM=$(sed -n 's/^program: //p' "$here/$name.patch")
    export SIM_PROGRAM
    found=$(CARGO_TARGET_DIR=$target timeout 600 cargo test --quiet --locked --test simulated -- \
        --ignored --nocapture many_seeds 2>/dev/null | grep -m1 '^seed ')
    if [[ -n $found ]]; then
        echo "$name: found by ${found%; replay:*}"
    else
        echo "$name: NOT FOUND in $SIM_SEEDS"
        missed=1
    fi
done
exit $missed
