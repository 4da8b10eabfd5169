#!/bin/sh
# Dumps the log's database into a folder, while the shop runs: log-TIME.dump, and keys-TIME.dump with what tells who
# customers are. Keep the log's as long as you like; of the keys only the latest, or a restore remembers who was
# forgotten since.
#
#   DATABASE_URL=postgres://… sh deploy/backup/dump.sh FOLDER
set -eu
if [ $# -ne 1 ]; then
    echo "usage: DATABASE_URL=postgres://… sh dump.sh FOLDER" >&2
    exit 2
fi
folder=$1
. "$(dirname "$0")/address.sh"
umask 077
mkdir -p "$folder"
time=$(date -u +%Y%m%dT%H%M%SZ)

# Under another name until it's whole.
write() {
    name=$1
    shift
    pg_dump --format=custom --no-password --file="$folder/.$name.part" "$@" "$address"
    pg_restore --list "$folder/.$name.part" >/dev/null
    mv "$folder/.$name.part" "$folder/$name"
    echo "$folder/$name"
}

# Snapshots are made again from the events.
write "log-$time.dump" --exclude-table-data=snapshots --exclude-table-data=customer_keys --exclude-table-data=subjects
# After the log, so that every customer in there has a key in here.
write "keys-$time.dump" --data-only --table=customer_keys --table=subjects
