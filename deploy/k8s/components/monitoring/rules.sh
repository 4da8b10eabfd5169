#!/bin/sh
# Makes rules.yaml of deploy/prometheus/rules: the same groups, as the Prometheus Operator wants them.
#     sh deploy/k8s/components/monitoring/rules.sh
set -eu
cd "$(dirname "$0")"
{
    echo "# Made by rules.sh of deploy/prometheus/rules: change it there. deploy/check.sh compares."
    printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: rentstream\nspec:\n  groups:\n'
    for file in ../../../prometheus/rules/*.yml; do
        sed -e '1,/^groups:$/d' -e 's/^./  &/' "$file"
        echo
    done
} | cat -s | sed '$ { /^$/d; }' >rules.yaml
