#!/usr/bin/env bash
# Brings what a make target needs onto the machine; quick when nothing is missing.
#
#   setup.sh build     -> Rust, C++ compiler, libclang, RocksDB
#   setup.sh contracts -> Node, npm packages
#   setup.sh test      -> both of the above, cargo-nextest
#   setup.sh lint      -> all of it, cargo-deny, slither
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages where we may, and otherwise says what to type.
debian_install() {
    if have apt-get && [ "$(id -u)" = 0 ]; then
        say "installing from Debian: $*"
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >&2 && return
    fi
    fail "missing: $*" "install them and run this again, on Debian: sudo apt-get install $*"
}

need_rust() {
    have cargo || fail "missing: Rust" \
        "install rustup from https://rustup.rs; rust-toolchain.toml then selects the version"
    have rustfmt && have clippy-driver || rustup component add rustfmt clippy >&2 ||
        fail "rustfmt or clippy is missing: rustup component add rustfmt clippy"
}

need_compiler() {
    have "${CXX:-g++}" && have "${CC:-cc}" && have make || debian_install build-essential
}

need_node() {
    have node && have npm || debian_install nodejs npm
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge 20 ] || fail "Node $(node --version) is too old: the tests need 20 or newer"
}

# The stamp holds what was installed from, so that a changed lock file installs again.
need_npm_packages() {
    local stamp=$root/node_modules/.millrace-stamp wanted
    wanted=$(cksum <"$root/package-lock.json")
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    say "installing the npm packages"
    (cd "$root" && npm ci --no-fund --no-audit --loglevel=error >&2) ||
        fail "npm ci failed: is the npm registry reachable?"
    [ -x "$root/node_modules/.bin/forge" ] || fail "npm brought no forge for this platform"
    printf '%s\n' "$wanted" >"$stamp"
}

need_native() {
    local stamp=$cache/native-stamp wanted
    wanted=$(sed -n '/^name = "librocksdb-sys"/,/^checksum/p' "$root/Cargo.lock" |
        cat - "$root/scripts/rocksdb.sh" | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -f "${ROCKSDB_LIB_DIR:-/none}/librocksdb.a" ] &&
        [ -d "${LIBCLANG_PATH:-/none}" ]; then
        return 0
    fi
    "$root/scripts/rocksdb.sh"
    printf '%s\n' "$wanted" >"$stamp"
}

need_python() {
    have python3 || debian_install python3 python3-venv python3-pip
    python3 -c 'import ensurepip' 2>/dev/null || debian_install python3-venv python3-pip
}

# pip_tools NAME REQUIREMENTS OPTION...: one virtual environment for each requirements file.
pip_tools() {
    local place=$tools/$1 requirements=$root/scripts/$2 wanted
    wanted=$(cksum <"$requirements")
    [ "$(cat "$place/stamp" 2>/dev/null)" != "$wanted" ] || return 0
    need_python
    say "installing $1"
    rm -rf "$place"
    python3 -m venv "$place" >&2 &&
        "$place/bin/pip" install --quiet --disable-pip-version-check "${@:3}" -r "$requirements" >&2 || return 1
    mkdir -p "$tools/bin"
    printf '%s\n' "$wanted" >"$place/stamp"
}

# Prebuilt programs where there are some, otherwise compiled by cargo.
need_cargo_tool() {
    local name=$1 version=$2
    ! have "$name" || return 0
    if [ "$(uname -sm)" = "Linux x86_64" ] &&
        pip_tools "$name" "requirements-$name.txt" --require-hashes --no-deps; then
        ln -sf "$tools/$name/bin/$name" "$tools/bin/$name"
    else
        say "compiling $name $version; some minutes"
        cargo install --locked --quiet --version "$version" --root "$tools" "$name" ||
            fail "cannot install $name: cargo install --locked $name --version $version"
    fi
}

need_slither() {
    pip_tools slither requirements-slither.txt || fail "cannot install slither-analyzer with pip"
    ln -sf "$tools/slither/bin/slither" "$tools/bin/slither"
}

mkdir -p "$cache"
# Two makes at once must not install over each other.
exec 8>"$cache/setup.lock"
flock 8

case ${1:-build} in
    build)
        need_rust
        need_compiler
        need_native
        ;;
    contracts)
        need_node
        need_npm_packages
        ;;
    test)
        need_rust
        need_compiler
        need_native
        need_node
        need_npm_packages
        need_cargo_tool cargo-nextest 0.9.148
        ;;
    lint)
        need_rust
        need_compiler
        need_native
        need_node
        need_npm_packages
        need_cargo_tool cargo-nextest 0.9.148
        need_cargo_tool cargo-deny 0.20.2
        need_slither
        ;;
    *) fail "unknown set of tools: $1" ;;
esac
