#!/usr/bin/env bash
# Gets the clients and tools that the tests run into target/test-tools: the AWS CLI and boto3 in a Python
# environment of their own; rclone, strace, curl, the ext4 tools, iproute2 and nftables from Debian's packages.
# What cannot be had is named: its tests then skip loudly, or fail where CI=true.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

tools=${1:?usage: test-tools.sh DIRECTORY}
mkdir -p "$tools"

missing=()
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
        apt_install "${missing[@]}"
    else
        echo "Some tests will be skipped. To run them: sudo apt-get install ${missing[*]}" >&2
    fi
fi

stamp="$tools/installed"
wanted=$(sha256sum "$here/requirements.txt")
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    rm -rf "$tools/venv"
    if python3 -m venv "$tools/venv" \
        && "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"; then
        echo "$wanted" >"$stamp"
    else
        rm -rf "$tools/venv"
        echo "The AWS CLI and boto3 could not be installed; their tests will be skipped." >&2
    fi
fi
