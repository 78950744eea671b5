#!/usr/bin/env bash
# Checks what building needs: Rust, a C++ compiler, libclang (RocksDB's bindings are generated with it).
# Installs the latter two on Debian as root; elsewhere names the package and stops.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

wanted=1.95
missing=()

have_rust() {
    command -v cargo >/dev/null 2>&1 || return 1
    local have
    have=$(rustc --version | awk '{print $2}')
    [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n1)" = "$wanted" ]
}

# The library, and the compiler's own headers, which Debian keeps in a package of their own.
have_libclang() {
    local library header
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    library=$(compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib*/libclang*.so*' \
        || compgen -G '/usr/lib/*-linux-gnu/libclang*.so*' || compgen -G '/usr/lib64/llvm*/lib/libclang*.so*' || true)
    header=$(compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' || compgen -G '/usr/lib*/clang/*/include/stddef.h' || true)
    [ -n "$library" ] && [ -n "$header" ]
}

if ! have_rust; then
    echo "Ullage needs Rust $wanted or newer; found: $(rustc --version 2>/dev/null || echo none)." >&2
    echo "With rustup (https://rustup.rs): rustup update stable" >&2
    exit 1
fi
command -v c++ >/dev/null 2>&1 || missing+=(g++)
have_libclang || missing+=(libclang-dev)
[ ${#missing[@]} = 0 ] && exit 0

if can_apt; then
    apt_install "${missing[@]}"
    exit 0
fi
echo "Building RocksDB needs a C++ compiler and libclang. Please install:" >&2
if command -v dnf >/dev/null 2>&1; then
    echo "  sudo dnf install gcc-c++ clang-devel" >&2
elif command -v pacman >/dev/null 2>&1; then
    echo "  sudo pacman -S gcc clang" >&2
elif command -v zypper >/dev/null 2>&1; then
    echo "  sudo zypper install gcc-c++ clang-devel" >&2
else
    echo "  sudo apt-get install ${missing[*]}" >&2
fi
exit 1
