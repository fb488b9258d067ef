#!/usr/bin/env bash
# The API on Cloud Run: a revision beside the old one, tried at its own address, then shifted step by step.
# Whatever ends this before its last gate gives all traffic back to the old revision. See docs/release.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${REGION:?}" "${CLOUD_REGISTRY:?}" "${API_URL:?}"
service=(mlops-api --region "$REGION" --quiet)
gate() { python3 deploy/release/gate.py "$1"; }
traffic() { gcloud run services describe "${service[@]}" --format 'json(status.traffic)' | python3 -c "
import json, sys
entries = json.load(sys.stdin)['status']['traffic']
print($1)"; }

gcloud auth configure-docker "${CLOUD_REGISTRY%%/*}" --quiet
deploy/release/images.sh copy
old=$(traffic "max(entries, key=lambda entry: entry.get('percent', 0))['revisionName']")
gcloud run jobs update mlops-migrate --region "$REGION" --quiet --image "$CLOUD_REGISTRY/mlops-api:$VERSION"
gcloud run jobs execute mlops-migrate --region "$REGION" --quiet --wait

finished=
back() {
  [ -z "$finished" ] || return 0
  echo "back to $old" >&2
  gcloud run services update-traffic "${service[@]}" --to-revisions "$old=100"
}
trap back EXIT
gcloud run deploy "${service[@]}" --image "$CLOUD_REGISTRY/mlops-api:$VERSION" --no-traffic --tag candidate
gate "$(traffic "next(entry['url'] for entry in entries if entry.get('tag') == 'candidate')")"
for share in 10 50 100; do
  gcloud run services update-traffic "${service[@]}" --to-tags "candidate=$share"
  gate "$API_URL"
done
gcloud run deploy mlops-app --region "$REGION" --quiet --image "$CLOUD_REGISTRY/mlops-app:$VERSION"
finished=yes
