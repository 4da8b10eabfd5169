#!/bin/sh
# Postgres' archive_command: puts a segment of its write-ahead log into a folder, whole or not at all.
#
#   archive_command = 'sh /…/deploy/backup/archive.sh %p %f /the/archive'
set -eu
segment=$1
name=$2
folder=$3
if [ -f "$folder/$name" ]; then
    # Postgres asks again when it crashed before it had noted our answer.
    cmp -s "$segment" "$folder/$name" && exit 0
    echo "$folder/$name is there already with another content: two servers archive into one folder" >&2
    exit 1
fi
cp "$segment" "$folder/.$name.part"
sync "$folder/.$name.part"
mv "$folder/.$name.part" "$folder/$name"
sync "$folder"
