#!/bin/sh
# Known weaknesses of what the images install, by lock file. An exception has its reason and the day to look again.
set -eu
today=$(date -u +%Y-%m-%d)
ignored=
while read -r id until reason; do
    case $id in ''|\#*) continue ;; esac
    [ -n "$reason" ] || { echo "deploy/images/exceptions.txt: $id has no reason" >&2; exit 1; }
    [ "$(printf '%s\n%s\n' "$today" "$until" | sort | head -1)" = "$today" ] || { echo "the exception for $id ran out on $until: look again" >&2; exit 1; }
    ignored="$ignored --ignore-vuln $id"
done < deploy/images/exceptions.txt
for lock in serve app mlflow pipeline; do
    echo "requirements/$lock.txt"
    # shellcheck disable=SC2086  # one option each
    pip-audit --strict --progress-spinner off --require-hashes --disable-pip -r "requirements/$lock.txt" $ignored
done
