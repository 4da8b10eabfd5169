#!/bin/sh
# Checks what is in deploy/ without a cluster and without Docker: the image's recipe (hadolint), compose.yaml (compose
# itself), and every overlay of deploy/k8s: built, held against Kubernetes' schemas and against itself, and against
# policies (checkov). Fetches what is missing into target/deploy-check.
set -eu
cd "$(dirname "$0")/.."
work=target/deploy-check
mkdir -p "$work"
say() { printf '%s\n' "$*" >&2; }

sh deploy/install-python.sh
wanted=deploy/check/requirements.txt
venv=$work/venv
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    # uv, since pip takes minutes for checkov's hundred packages.
    "$venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
    "$venv/bin/uv" pip install --quiet --no-cache --python "$venv/bin/python" --requirement "$wanted"
    cp "$wanted" "$venv/installed.txt"
fi

# Debian 12's own kubectl and Compose are too old; Debian 13's run on it. Unpacked here, not installed.
from_debian() {
    case $(sh -c '. /etc/os-release; echo "$ID $VERSION_ID"') in "debian 12" | "debian 13") ;; *) return 1 ;; esac
    apt=$PWD/$work/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" \
        >"$apt/sources.list"
    set -- "$1" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    package=$1
    shift
    [ -f "$apt/updated" ] || { apt-get -qq "$@" update >&2 && touch "$apt/updated"; }
    (cd "$apt" && apt-get -qq "$@" download "$package" >&2 && dpkg -x "$package"_*.deb "$apt/root")
}

kustomize_is_new() { "$@" 2>/dev/null | grep -q 'v5\.'; }
kustomize=$work/apt/root/usr/bin/kustomize
if kustomize_is_new kubectl version --client; then
    build() { kubectl kustomize "$1"; }
elif kustomize_is_new kustomize version; then
    build() { kustomize build "$1"; }
else
    [ -x "$kustomize" ] || from_debian kustomize || { say "Install kubectl 1.27 or newer, or kustomize 5."; exit 1; }
    build() { "$kustomize" build "$1"; }
fi

compose=$work/apt/root/usr/libexec/docker/cli-plugins/docker-compose
if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
else
    [ -x "$compose" ] || from_debian docker-compose || { say "Install Docker Compose 2.20 or newer."; exit 1; }
    compose() { "$compose" "$@"; }
fi

"$venv/bin/hadolint" deploy/Dockerfile
compose --file deploy/compose.yaml config --quiet

# The overlays, and one for the components that none of them uses.
rm -rf "$work/built" "$work/ingress"
mkdir -p "$work/built" "$work/ingress"
printf 'namespace: rentstream\nresources: [../../../deploy/k8s/base]\ncomponents: [../../../deploy/k8s/components/ingress, ../../../deploy/k8s/components/traces]\n' \
    >"$work/ingress/kustomization.yaml"
for overlay in deploy/k8s/overlays/* "$work/ingress"; do
    build "$overlay" >"$work/built/$(basename "$overlay").yaml"
done
"$venv/bin/python" deploy/check/manifests.py "$work/built"
"$venv/bin/checkov" --config-file deploy/check/checkov.yaml --directory "$work/built"
say "deploy/ is in order."
