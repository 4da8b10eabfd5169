#!/bin/sh
# Holds the running system against its own description: schemathesis, over a fresh `rentstream up`.
set -eu
cd "$(dirname "$0")/../.."
sh deploy/install-python.sh
venv=target/contract
wanted=tests/contract/requirements.txt
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/installed.txt"
fi
cargo build --quiet --bin rentstream
exec "$venv/bin/python" tests/contract/run.py
