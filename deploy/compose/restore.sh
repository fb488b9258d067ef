#!/bin/sh
# Puts a backup in the place of what the volumes hold now; a damaged file is refused before anything is touched.
set -eu
file=${1:-}
[ -f "$file" ] || { echo "make restore FROM=backups/….tar: there is no file '$file'" >&2; exit 2; }
(cd "$(dirname "$file")" && sha256sum --quiet -c "$(basename "$file").sha256") || { echo "$file is not what was backed up; nothing was changed" >&2; exit 2; }
tar -tf "$file" db artifacts api-state >/dev/null 2>&1 || { echo "$file is no backup of this stack; nothing was changed" >&2; exit 2; }
running=$(docker compose --profile '*' ps --services --status running)
docker compose --profile '*' down >/dev/null 2>&1
docker compose run --rm -T --entrypoint find volumes /volumes -mindepth 2 -delete
docker compose run --rm -T volumes -C /volumes -xpf - < "$file"
[ -z "$running" ] || docker compose up -d $running >/dev/null 2>&1
echo "Restored from $file."
