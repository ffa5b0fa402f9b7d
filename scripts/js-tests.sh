#!/usr/bin/env bash
# Runs the JavaScript clients of tests/js against the binary of the test profile.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
shopt -s nullglob
files=(tests/js/*.test.mjs)
if [ "${#files[@]}" -eq 0 ]; then
    echo "tests/js holds no *.test.mjs"
    exit 0
fi
# The same features as the workspace's tests, so that nothing is compiled twice.
cargo test --locked --workspace --no-run --quiet
export MILLRACE_BIN=${MILLRACE_BIN:-$CARGO_TARGET_DIR/debug/millrace}
node --test --test-timeout=900000 "${files[@]}"
