#!/usr/bin/env bash
# Counts the instructions of a small proof's parts and compares them with prover/benches/instructions.txt: a gate against
# regressions that no other load on the machine disturbs. `scripts/instructions.sh write` takes today's counts as the measure.
#
# count_instructions (one run under callgrind) -> instructions of each count_* function -> more than the measure: failure
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
measure=prover/benches/instructions.txt
# Compilers lay code out differently with and without incremental compilation; a slower algorithm costs more than this.
tolerance_percent=5

skip() { printf 'instructions: SKIPPED: %s; nothing was counted\n' "$*"; exit 0; }
have() { command -v "$1" >/dev/null 2>&1; }
have valgrind && have callgrind_annotate || skip "valgrind is not installed (Debian: apt-get install valgrind)"
# The measure is of the code that processors with these instructions run.
for flag in bmi2 adx; do
    grep -qw "$flag" /proc/cpuinfo 2>/dev/null || skip "the processor has no $flag, with which the measure was counted"
done

cargo build --locked --quiet -p millrace-prover --example count_instructions
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind --quiet --tool=callgrind --callgrind-out-file="$work/profile" \
    "$CARGO_TARGET_DIR/debug/examples/count_instructions" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
# Lines such as "62,103,471 ( 5.28%)  => FILE:count_instructions::count_sums_g1 (1x)".
callgrind_annotate --inclusive=yes --tree=calling --threshold=100 "$work/profile" 2>/dev/null |
    sed -nE 's/^ *([0-9,]+) .*=> .*::count_([a-z0-9_]+) \(1x\).*/\2 \1/p' | tr -d , | sort -u >"$work/counts"
[ "$(wc -l <"$work/counts")" = 5 ] || {
    echo "instructions: callgrind named other functions than the five of count_instructions:"
    cat "$work/counts"
    exit 1
}
if [ "${1:-}" = write ]; then
    cp "$work/counts" "$measure"
    cat "$measure"
    exit 0
fi
status=0
while read -r part now; do
    before=$(sed -n "s/^$part //p" "$measure")
    [ -n "$before" ] || { echo "instructions: $measure lacks $part"; exit 1; }
    awk -v part="$part" -v now="$now" -v before="$before" -v tolerance="$tolerance_percent" 'BEGIN {
        change = (now - before) / before * 100
        printf "%-10s %12d, measure %12d, %+.2f %%\n", part, now, before, change
        exit change > tolerance
    }' || status=1
done <"$work/counts"
[ "$status" = 0 ] || printf 'instructions: more than %s %% above %s.\nIf that is wanted, run scripts/instructions.sh write and say why in the commit.\n' \
    "$tolerance_percent" "$measure"
exit "$status"
