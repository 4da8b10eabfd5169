#!/bin/sh
# Runs the gateway by the nginx of this machine, as the official image does in a container; see settings.envsh.
# `run.sh configure` only writes the configuration, for a gateway that runs: `kill -HUP` it afterwards.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.envsh"
PATH=$PATH:/usr/sbin:/usr/local/sbin

mkdir -p "$GATEWAY_RUN"
ours=$(env | sed -n 's/^\(GATEWAY_[A-Z_]*\)=.*/${\1}/p')
envsubst "$ours" <"$here/nginx.conf.template" >"$GATEWAY_RUN/nginx.conf.new"
mv "$GATEWAY_RUN/nginx.conf.new" "$GATEWAY_RUN/nginx.conf"
[ "${1:-}" = configure ] || exec nginx -e stderr -c "$GATEWAY_RUN/nginx.conf" -g 'daemon off;'
