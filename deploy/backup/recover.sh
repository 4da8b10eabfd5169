#!/bin/sh
# Prepares a data directory that, when Postgres starts on it, is recovered from a base backup and the archive to a
# moment: a time, an lsn, or the name of a restore point (SELECT pg_create_restore_point('…')). Without one, to the
# archive's end. Stop every role and the old server first.
#
#   sh deploy/backup/recover.sh BASE ARCHIVE NEW_DATA [time|lsn|name MOMENT]
set -eu
if [ $# -ne 3 ] && [ $# -ne 5 ]; then
    echo "usage: sh recover.sh BASE ARCHIVE NEW_DATA [time|lsn|name MOMENT]" >&2
    exit 2
fi
base=$1
archive=$2
data=$3
case ${4:-none} in
none | time | lsn | name) ;;
*)
    echo "$4 is no kind of moment; it should be time, lsn or name" >&2
    exit 2
    ;;
esac
case $archive${5:-} in
*"'"* | *\\*)
    echo "neither the archive's path nor the moment may hold a quote or a backslash" >&2
    exit 2
    ;;
esac
if [ ! -f "$base/PG_VERSION" ]; then
    echo "$base is no base backup" >&2
    exit 1
fi
if [ -e "$data" ]; then
    echo "$data is there already; name a new folder" >&2
    exit 1
fi
umask 077
cp -R "$base" "$data.part"
{
    echo "restore_command = 'cp \"$archive/%f\" \"%p\"'"
    if [ $# -eq 5 ]; then
        echo "recovery_target_$4 = '$5'"
        echo "recovery_target_action = 'promote'"
    fi
    # The archive is the old server's until somebody gives this one another.
    echo "archive_mode = off"
} >>"$data.part/postgresql.auto.conf"
touch "$data.part/recovery.signal"
mv "$data.part" "$data"
echo "start Postgres on $data"
