#!/bin/sh
# Installs what `rentstream up` starts by itself: Postgres, nats-server and, on Linux, util-linux's setpriv.
# With the argument `nginx` that too, and envsubst: what the gateway (deploy/gateway) is made of, for its tests. With
# `prometheus` that one and promtool, for the tests of deploy/prometheus and deploy/grafana.
# Silent when all are there. Starts no service: rentstream runs its own servers under its data folder.
set -eu

with=" $* "

say() { printf '%s\n' "$*" >&2; }

# True when any argument is an executable file; unmatched globs are not.
any_executable() {
    for file in "$@"; do
        if [ -f "$file" ] && [ -x "$file" ]; then return 0; fi
    done
    return 1
}

# The same places as crates/infra/src/servers/binaries.rs.
has_postgres() {
    if command -v postgres >/dev/null 2>&1 && command -v initdb >/dev/null 2>&1; then return 0; fi
    any_executable /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
        /usr/libexec/postgresql*/postgres /opt/homebrew/opt/postgresql@*/bin/postgres \
        /usr/local/opt/postgresql@*/bin/postgres
}

has_nats() {
    command -v nats-server >/dev/null 2>&1 ||
        any_executable /usr/sbin/nats-server /usr/local/bin/nats-server /usr/local/sbin/nats-server \
            /opt/homebrew/bin/nats-server
}

# Busybox has a setpriv too, without the one option we need. Elsewhere than on Linux there is none to have.
has_setpriv() {
    [ "$(uname -s)" != Linux ] || setpriv --help 2>&1 | grep -q pdeathsig
}

# What nobody asked for isn't missing.
asked_for() {
    case $with in *" $1 "*) ;; *) return 1 ;; esac
}

has_prometheus() {
    asked_for prometheus || return 0
    command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1
}

has_nginx() {
    asked_for nginx || return 0
    command -v envsubst >/dev/null 2>&1 || return 1
    command -v nginx >/dev/null 2>&1 ||
        any_executable /usr/sbin/nginx /usr/local/sbin/nginx /opt/homebrew/bin/nginx /usr/local/bin/nginx
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

install_by_apt() {
    as_root apt-get update -q >&2
    has_setpriv || apt_install util-linux
    if ! has_postgres; then
        # Debian would also make and start a server for the whole machine. An operator's own choice stands.
        apt_install postgresql-common
        settings=/etc/postgresql-common/createcluster.conf
        if ! grep -q '^[[:space:]]*create_main_cluster' "$settings"; then
            echo 'create_main_cluster = false' | as_root tee -a "$settings" >/dev/null
        fi
        apt_install postgresql
    fi
    if ! has_nats; then
        apt_install nats-server
        stop_unit nats-server
    fi
    if ! has_nginx; then
        # Debian would start it for the whole machine, on port 80.
        starting_nothing apt_install nginx-light gettext-base
        stop_unit nginx
    fi
    if ! has_prometheus; then
        # It would watch the machine on port 9090, and its exporter on 9100: that one isn't brought along.
        starting_nothing apt_install prometheus
        stop_unit prometheus
    fi
}

# Whoever installs a service for Debian asks this file first whether it may start it. An operator's own stands.
starting_nothing() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    status=0
    "$@" || status=$?
    as_root rm -f "$policy"
    return "$status"
}

stop_unit() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now "$1" >&2 || say "Could not stop the service $1: stop it, we don't need it."
    fi
}

install_by_dnf() {
    has_setpriv || as_root dnf install -y util-linux >&2
    has_postgres || as_root dnf install -y postgresql-server >&2
    has_nats || as_root dnf install -y nats-server >&2 || true
    has_nginx || as_root dnf install -y nginx gettext >&2
    has_prometheus || as_root dnf install -y prometheus >&2 || true
}

install_by_apk() {
    has_setpriv || as_root apk add setpriv >&2
    has_postgres || as_root apk add postgresql >&2
    has_nats || as_root apk add nats-server >&2 || true
    has_nginx || as_root apk add nginx gettext-envsubst >&2
    has_prometheus || as_root apk add prometheus >&2
}

install_by_brew() {
    has_postgres || brew install postgresql@17 >&2
    has_nats || brew install nats-server >&2
    has_nginx || brew install nginx gettext >&2
    has_prometheus || brew install prometheus >&2
}

if has_postgres && has_nats && has_setpriv && has_nginx && has_prometheus; then exit 0; fi

manager=
for candidate in apt-get dnf apk brew; do
    if command -v "$candidate" >/dev/null 2>&1; then
        manager=$candidate
        break
    fi
done

if [ -z "$manager" ]; then
    say "No apt-get, dnf, apk or brew was found. Install by hand, so that they are on PATH: postgres with initdb"
    say "(https://www.postgresql.org/download/), nats-server (https://github.com/nats-io/nats-server/releases)"
    say "and, on Linux, setpriv (part of util-linux)."
    exit 1
fi

if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
    say "Installing Postgres and nats-server needs root, and there is no sudo. Run:"
    say "    su -c 'sh \"$script\"$with'"
    exit 1
fi

case $manager in
    apt-get) install_by_apt ;;
    dnf) install_by_dnf ;;
    apk) install_by_apk ;;
    brew) install_by_brew ;;
esac

missing=0
has_postgres || { missing=1; say "Postgres is still missing. Get it from https://www.postgresql.org/download/"; }
has_nats || {
    missing=1
    say "nats-server is still missing. Get it from https://github.com/nats-io/nats-server/releases and put it"
    say "into /usr/local/bin."
}
has_setpriv || { missing=1; say "setpriv is still missing. It is part of util-linux."; }
has_nginx || { missing=1; say "nginx or envsubst (part of gettext) is still missing. See https://nginx.org/en/download.html"; }
has_prometheus || {
    missing=1
    say "prometheus or promtool is still missing. See https://prometheus.io/download/"
}
exit "$missing"
