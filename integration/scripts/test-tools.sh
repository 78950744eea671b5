#!/usr/bin/env bash
# Gets the clients and tools that the tests run into target/test-tools: what PyPI has in a Python environment
# (requirements.txt), Amazon's SDK for JavaScript beside it (js/package-lock.json); the AWS CLI 2, rclone, restic, s3fs,
# strace, curl, the ext4 tools, iproute2 and nftables from Debian's packages.
# What cannot be had is named: its tests then skip loudly, or fail where CI=true.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

tools=${1:?usage: test-tools.sh DIRECTORY}
mkdir -p "$tools"

# Whether a program of this name in PATH says that it has this version; others of its name may come before it.
has_version() {
    local program
    while read -r program; do
        if "$program" --version 2>&1 | grep -qF "$2"; then
            return 0
        fi
    done < <(type -ap "$1")
    return 1
}

missing=()
has_version aws aws-cli/2. || missing+=(awscli)
command -v restic >/dev/null 2>&1 || missing+=(restic)
command -v s3fs >/dev/null 2>&1 || missing+=(s3fs)
command -v node >/dev/null 2>&1 || missing+=(nodejs)
command -v npm >/dev/null 2>&1 || missing+=(npm)
command -v rclone >/dev/null 2>&1 || missing+=(rclone)
command -v strace >/dev/null 2>&1 || missing+=(strace)
PATH="$PATH:/usr/sbin:/sbin" command -v mkfs.ext4 >/dev/null 2>&1 || missing+=(e2fsprogs)
PATH="$PATH:/usr/sbin:/sbin" command -v mount >/dev/null 2>&1 || missing+=(mount)
PATH="$PATH:/usr/sbin:/sbin" command -v tc >/dev/null 2>&1 || missing+=(iproute2)
PATH="$PATH:/usr/sbin:/sbin" command -v nft >/dev/null 2>&1 || missing+=(nftables)
command -v curl >/dev/null 2>&1 || missing+=(curl)
command -v python3 >/dev/null 2>&1 || missing+=(python3)
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
if [ ${#missing[@]} != 0 ]; then
    if can_apt; then
        # One that cannot be had keeps all from being installed: then each by itself.
        if ! apt_install "${missing[@]}"; then
            for package in "${missing[@]}"; do
                apt_install "$package" \
                    || echo "$package could not be installed; its tests will be skipped." >&2
            done
        fi
    else
        echo "Some tests will be skipped. To run them: sudo apt-get install ${missing[*]}" >&2
    fi
fi

stamp="$tools/installed"
wanted=$(sha256sum <"$here/requirements.txt")
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    rm -rf "$tools/venv"
    if python3 -m venv "$tools/venv" \
        && "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"; then
        echo "$wanted" >"$stamp"
    else
        rm -rf "$tools/venv"
        echo "The clients from PyPI could not be installed; their tests will be skipped." >&2
    fi
fi

# Whether Node.js is one that Amazon's SDK runs on (`engines` in js/package-lock.json).
node_is_new() {
    local version
    version=$(node --version 2>/dev/null) || return 1
    version=${version#v}
    version=${version%%.*}
    [[ $version =~ ^[0-9]+$ ]] && [ "$version" -ge 20 ]
}

# The SDK for JavaScript resolves from the directory that node runs in; node-aws-sdk is node in that directory.
js_program="$tools/venv/bin/node-aws-sdk"
stamp="$tools/js/installed"
wanted=$(sha256sum <"$here/js/package-lock.json")
if ! [ -d "$tools/venv/bin" ]; then
    echo "Amazon's SDK for JavaScript has no place without the clients from PyPI; its test will be skipped." >&2
    exit 0
fi
if ! node_is_new; then
    rm -f "$js_program"
    echo "SKIPPED: Amazon's SDK for JavaScript needs Node.js 20 or newer, and here is" \
        "$(node --version 2>/dev/null || echo none). Its test will be skipped." >&2
    exit 0
fi
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    rm -rf "$tools/js"
    mkdir -p "$tools/js"
    cp "$here/js/package.json" "$here/js/package-lock.json" "$tools/js/"
    if npm ci --prefix "$tools/js" --silent --no-audit --no-fund; then
        echo "$wanted" >"$stamp"
    else
        rm -rf "$tools/js"
        echo "Amazon's SDK for JavaScript could not be installed; its test will be skipped." >&2
    fi
fi
if [ -f "$stamp" ]; then
    printf '#!/bin/sh\ncd "%s" && exec node "$@"\n' "$tools/js" >"$js_program"
    chmod +x "$js_program"
else
    rm -f "$js_program"
fi
