#!/usr/bin/env bash
# Builds RocksDB's static library once per machine, outside the clone, and writes the
# environment that makes cargo use it.
#
#   crate sources (cargo fetch) -> unity chunks -> librocksdb.a -> smoke test -> env.sh
#
# Compiled file by file, the C++ costs half an hour of processor time, nearly all of it
# headers read again and again, and cargo pays it once per profile. Files that include each
# other in chunks read them once per chunk. A chunk whose files clash is halved until it
# compiles, so a new RocksDB needs no change here.
#
# Safe to call at any time, also in parallel: it holds a lock and returns at once when the
# library for this crate version, compiler and recipe exists.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MILLRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millrace}
libclang_version=18.1.1
chunk_bytes=400000

say() { printf 'rocksdb: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

crate_version() {
    awk '/^name = "librocksdb-sys"$/ { getline; gsub(/version = |"/, ""); print; exit }' "$root/Cargo.lock"
}

find_sources() {
    find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -type d \
        -name "librocksdb-sys-$version" -print -quit 2>/dev/null || true
}

compiler_flags() {
    printf '%s\n' -std=c++20 -O2 -w -fPIC -ffunction-sections -fdata-sections -pthread \
        -Irocksdb/include -Irocksdb -Irocksdb/third-party/gtest-1.8.1/fused-src -I. \
        -include cstdint \
        -DNDEBUG=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION \
        -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX \
        -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT \
        -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
    # Hardware checksums: every x86-64 processor since 2010 has them.
    if [ "$(uname -m)" = x86_64 ]; then printf '%s\n' -msse4.2 -mpclmul; fi
}

# Files that must be compiled alone: C with macros of its own, or macros that would change
# the meaning of the files after them without failing to compile.
alone() {
    case $1 in
        util/xxhash.cc | util/crc32c* | db/c.cc | port/* | memory/* | third-party/* | \
            utilities/transactions/lock/range/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Writes one file per chunk, each holding the sources it includes, one a line.
plan_chunks() {
    local number=0 bytes=0 folder='' source size
    while read -r source; do
        [ "$source" != util/build_version.cc ] || continue
        size=$(stat -c %s "rocksdb/$source")
        if alone "$source"; then
            printf 'rocksdb/%s\n' "$source" >"$work/alone-$(tr '/.' '__' <<<"$source").list"
            continue
        fi
        if [ "$bytes" -gt 0 ] && { [ $((bytes + size)) -gt "$chunk_bytes" ] ||
            { [ "${source%%/*}" != "$folder" ] && [ "$bytes" -gt $((chunk_bytes / 2)) ]; }; }; then
            number=$((number + 1)) bytes=0
        fi
        folder=${source%%/*} bytes=$((bytes + size))
        printf 'rocksdb/%s\n' "$source" >>"$work/$(printf 'chunk-%03d' "$number").list"
    done < <(tr -d '\r ' <rocksdb_lib_sources.txt | grep -v '^$')
    printf 'build_version.cc\n' >"$work/alone-build_version.list"
}

# Compiles one list into objects beside it, halving it when its files clash.
compile_list() {
    local list=$1 base=${1%.list} count
    sed 's/.*/#include "&"/' "$list" >"$base.cc"
    # shellcheck disable=SC2046 # the flags hold no spaces
    if "$compiler" $(cat "$work/flags") -c "$base.cc" -o "$base.o" 2>"$base.log"; then return; fi
    count=$(wc -l <"$list")
    if [ "$count" -le 1 ]; then
        cat "$base.log" >&2
        fail "cannot compile $(cat "$list")"
    fi
    say "files clash in $(basename "$base") ($count files, from $(head -n1 "$list")): halving it"
    rm -f "$base.o"
    head -n $((count / 2)) "$list" >"$base-a.list"
    tail -n +$((count / 2 + 1)) "$list" >"$base-b.list"
    compile_list "$base-a.list"
    compile_list "$base-b.list"
}

smoke_test() {
    cat >"$work/smoke.cc" <<'CPP'
#include <cstdio>
#include <cstring>
#include "rocksdb/c.h"
int main(int, char** arguments) {
  char* error = nullptr;
  rocksdb_options_t* options = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(options, 1);
  rocksdb_writeoptions_t* write = rocksdb_writeoptions_create();
  rocksdb_writeoptions_set_sync(write, 1);
  rocksdb_readoptions_t* read = rocksdb_readoptions_create();
  for (int round = 0; round < 2; ++round) {
    rocksdb_t* store = rocksdb_open(options, arguments[1], &error);
    if (error) { std::puts(error); return 1; }
    if (round == 0) rocksdb_put(store, write, "key", 3, "value", 5, &error);
    if (error) { std::puts(error); return 2; }
    size_t length = 0;
    char* value = rocksdb_get(store, read, "key", 3, &length, &error);
    if (error || length != 5 || std::memcmp(value, "value", 5) != 0) return 3;
    rocksdb_free(value);
    rocksdb_close(store);
  }
  return 0;
}
CPP
    # The whole archive is linked, so a symbol missing anywhere in it shows here.
    "$compiler" -std=c++20 -w -Irocksdb/include "$work/smoke.cc" -o "$work/smoke" \
        -Wl,--whole-archive "$work/librocksdb.a" -Wl,--no-whole-archive -pthread -ldl
    "$work/smoke" "$work/smoke-store" || fail "the built library cannot open, write and read a store"
}

build_library() {
    local destination=$1 sources started=$SECONDS
    sources=$(find_sources)
    if [ -z "$sources" ]; then
        say "fetching the crates"
        (cd "$root" && cargo fetch --locked --quiet)
        sources=$(find_sources)
    fi
    [ -n "$sources" ] || fail "cargo fetch did not bring librocksdb-sys $version"
    work=$(mktemp -d "$cache/rocksdb-build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$sources"
    compiler_flags | tr '\n' ' ' >"$work/flags"
    plan_chunks
    say "compiling RocksDB $version once for this machine, $jobs at a time; about 5 minutes on 2 cores"
    export -f compile_list say fail
    export work compiler
    # Largest first, so that no long chunk is left for the end.
    for list in "$work"/*.list; do
        printf '%s %s\n' "$(xargs cat <"$list" | wc -c)" "$list"
    done | sort -rn | cut -d' ' -f2- |
        xargs -P "$jobs" -I{} bash -c 'set -euo pipefail; compile_list "$1"' _ {}
    find "$work" -name '*.o' -print | sort | xargs ar crs "$work/librocksdb.a"
    smoke_test
    mkdir -p "$destination"
    mv "$work/librocksdb.a" "$destination/librocksdb.a"
    printf '%s\n' "$recipe" >"$destination/recipe"
    say "built in $((SECONDS - started)) s"
}

# bindgen needs libclang; the system's is as good as the wheel's.
find_libclang() {
    local file
    for file in "$cache/libclang-$libclang_version"/clang/native/libclang.so \
        /usr/lib/llvm-*/lib/libclang.so* /usr/lib/*/libclang.so* /usr/lib/*/libclang-[0-9]*.so*; do
        if [ -e "$file" ]; then dirname "$file"; return; fi
    done
}

install_libclang() {
    local target=$cache/libclang-$libclang_version
    say "installing libclang $libclang_version"
    if python3 -m pip install --quiet --no-deps --target "$target.new" "libclang==$libclang_version" >&2; then
        rm -rf "$target"
        mv "$target.new" "$target"
        return
    fi
    rm -rf "$target.new"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq >&2 && apt-get install -y -qq libclang-dev >&2
    fi
}

write_environment() {
    local libclang
    libclang=$(find_libclang)
    if [ -z "$libclang" ]; then
        install_libclang || true
        libclang=$(find_libclang)
    fi
    [ -n "$libclang" ] || fail "no libclang: install Debian's libclang-dev, or pip for python3"
    cat >"$cache/env.sh.new" <<ENV
# Written by scripts/rocksdb.sh: source it before cargo.
export ROCKSDB_LIB_DIR='$1'
export ROCKSDB_STATIC=1
export LIBCLANG_PATH='$libclang'
export BINDGEN_EXTRA_CLANG_ARGS='-I$("$compiler" -print-file-name=include)'
ENV
    mv "$cache/env.sh.new" "$cache/env.sh"
}

version=$(crate_version)
[ -n "$version" ] || fail "Cargo.lock names no librocksdb-sys"
compiler=${CXX:-g++}
command -v "$compiler" >/dev/null || fail "no C++ compiler: install Debian's g++"
jobs=${ROCKSDB_JOBS:-$(nproc)}
recipe="$version $("$compiler" -dumpfullversion 2>/dev/null) $(compiler_flags | cksum | cut -d' ' -f1)"
library=$cache/rocksdb-$version

mkdir -p "$cache"
exec 9>"$cache/rocksdb.lock"
flock 9
if [ "$(cat "$library/recipe" 2>/dev/null)" != "$recipe" ] || [ ! -e "$library/librocksdb.a" ]; then
    build_library "$library"
fi
write_environment "$library"
