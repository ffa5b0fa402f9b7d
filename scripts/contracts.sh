#!/usr/bin/env bash
# Everything about the Solidity project that make calls.
#   contracts.sh write     compile and write l1/contracts/artifacts
#   contracts.sh check     compile and compare with the committed artifacts
#   contracts.sh format    formatting of the sources
#   contracts.sh analyse   slither
#   contracts.sh test      forge's tests
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root/l1/contracts"

case $1 in
    write | check)
        forge build --skip test --skip script
        node script/poseidon.mjs check
        node script/channel-vectors.mjs check
        node "$root/scripts/contract-artifacts.mjs" "$1" .
        ;;
    format) forge fmt --check ;;
    # A finding is mended, or disabled on its line with the reason beside it. Slither cleans
    # before it builds, so it gets folders of its own.
    analyse)
        export FOUNDRY_OUT=cache/slither/out FOUNDRY_CACHE_PATH=cache/slither/cache
        slither . --fail-low --exclude-informational --exclude-optimization --exclude-dependencies \
            --filter-paths 'node_modules|test/|script/'
        ;;
    # The gas of snapshots/ is pinned; a change is written by forge test without the variable.
    test) FORGE_SNAPSHOT_CHECK=true forge test ;;
    *) echo "contracts.sh: unknown step $1" >&2; exit 2 ;;
esac
