#!/bin/sh
# Restores a dump into a fresh database: the log as it was then, and the keys of the customers who have not been
# forgotten since. Stop every role first. See docs/operations.md for what comes after.
#
#   DATABASE_URL=postgres://…/an-empty-database sh deploy/backup/restore.sh LOG.dump KEYS.dump
set -eu
if [ $# -ne 2 ]; then
    echo "usage: DATABASE_URL=postgres://… sh restore.sh LOG.dump KEYS.dump" >&2
    exit 2
fi
log=$1
keys=$2
. "$(dirname "$0")/address.sh"
for dump in "$log" "$keys"; do
    pg_restore --list "$dump" >/dev/null
done
query() {
    psql --no-psqlrc --no-password --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --command="$1" "$address"
}
if [ -n "$(query "SELECT to_regclass('events')")" ]; then
    echo "there is a log in this database already; restore into an empty one" >&2
    exit 1
fi
# Owners and grants are the new server's.
restore() {
    pg_restore --no-owner --no-acl --no-password --exit-on-error --single-transaction --dbname="$address" "$@"
}
restore "$log"
restore --data-only "$keys"
query "REVOKE UPDATE, DELETE, TRUNCATE ON events FROM PUBLIC, CURRENT_USER"
query "ANALYZE"
echo "restored up to position $(query "SELECT position FROM log_head")"
