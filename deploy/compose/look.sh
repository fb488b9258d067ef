#!/bin/sh
# Says what of the stack is up, once it is; and what is missing.
set -eu
for _ in $(seq 60); do
    docker compose ps --status running --services | grep -qx api && break
    sleep 1
done
for _ in $(seq 30); do
    state=$(docker inspect -f '{{.State.Health.Status}}' "$(docker compose ps -q api)")
    [ "$state" = healthy ] && break
    sleep 1
done
docker compose ps --format 'table {{.Service}}\t{{.Status}}'
if [ "$state" = healthy ]; then
    echo "API on http://$(docker compose port api 8000), page on http://$(docker compose port app 8866); sign in as admin with MLOPS_ADMIN_PASSWORD of .env"
else
    echo "No model yet: make batch runs the series in its container, and the API picks the champion up by itself"
fi
