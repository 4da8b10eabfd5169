#!/bin/sh
# Copies a running server's data into a new folder below this one: base-TIME. With the archive of its write-ahead log
# (archive.sh) it can be recovered to any moment after that. The user must be allowed to replicate.
#
#   DATABASE_URL=postgres://… sh deploy/backup/base.sh FOLDER
set -eu
if [ $# -ne 1 ]; then
    echo "usage: DATABASE_URL=postgres://… sh base.sh FOLDER" >&2
    exit 2
fi
folder=$1
. "$(dirname "$0")/address.sh"
umask 077
mkdir -p "$folder"
name=base-$(date -u +%Y%m%dT%H%M%SZ)
rm -rf "$folder/.$name.part"
pg_basebackup --pgdata="$folder/.$name.part" --checkpoint=fast --wal-method=stream --no-password --dbname="$address"
mv "$folder/.$name.part" "$folder/$name"
echo "$folder/$name"
