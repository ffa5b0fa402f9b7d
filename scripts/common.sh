# Shared by the scripts: where the caches lie and the environment of every tool. Sourced, not run.
# shellcheck shell=bash
#
#   cache folder -> RocksDB, libclang, Python tools, cargo's target directory
#   clone        -> node_modules

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MILLRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millrace}
tools=$cache/tools

# One target directory for all clones on a machine: dependencies are compiled once.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export PATH=$root/node_modules/.bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:$tools/bin
# forge and slither write no settings or telemetry elsewhere and download nothing.
export FOUNDRY_OFFLINE=true FOUNDRY_DISABLE_NIGHTLY_WARNING=1

# RocksDB and libclang; absent until scripts/setup.sh has run.
if [ -f "$cache/env.sh" ]; then
    # shellcheck disable=SC1091 # written by rocksdb.sh
    . "$cache/env.sh"
fi
