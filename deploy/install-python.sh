#!/bin/sh
# Installs what `make contract` needs: Python 3 with venv. Silent when it is there.
set -eu

say() { printf '%s\n' "$*" >&2; }

# Debian's python3 has a venv module that can make nothing without ensurepip.
has_venv() {
    command -v python3 >/dev/null 2>&1 && python3 -c 'import ensurepip, venv' >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if has_venv; then exit 0; fi

if ! command -v brew >/dev/null 2>&1 && [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
    say "Installing Python needs root, and there is no sudo. Run:"
    say "    su -c 'sh \"$script\"'"
    exit 1
fi

if command -v apt-get >/dev/null 2>&1; then
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 python3-venv >&2
elif command -v dnf >/dev/null 2>&1; then
    as_root dnf install -y python3 >&2
elif command -v apk >/dev/null 2>&1; then
    as_root apk add python3 >&2
elif command -v brew >/dev/null 2>&1; then
    brew install python3 >&2
fi

has_venv || { say "Python 3 with venv is missing. Get it from https://www.python.org/downloads/"; exit 1; }
