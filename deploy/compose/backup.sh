#!/bin/sh
# One file with the databases, the artefacts and the API's state, all of one moment: everything stands still meanwhile.
set -eu
umask 077
folder=${BACKUPS:-backups}
mkdir -p "$folder"
file=$folder/mlops-$(date -u +%Y%m%dT%H%M%SZ).tar
running=$(docker compose --profile '*' ps --services --status running)
trap '[ -z "$running" ] || docker compose start $running >/dev/null 2>&1 || docker compose start $running' EXIT
[ -z "$running" ] || docker compose --profile '*' stop $running >/dev/null 2>&1
docker compose run --rm -T volumes -C /volumes -cf - db artifacts api-state s3 > "$file.part"
mv "$file.part" "$file"
(cd "$folder" && sha256sum "${file##*/}" > "${file##*/}.sha256")
echo "$file, $(wc -c < "$file") bytes. It holds accounts and predictions, and belongs with .env: keep both safe."
