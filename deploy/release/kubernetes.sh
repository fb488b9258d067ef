#!/usr/bin/env bash
# The stack on Kubernetes: new pods get requests when they are ready, old ones go only then.
# A rollout that does not finish, or fails the gate, is undone. See docs/release.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${REGISTRY:?}" "${OVERLAY:?is aws, gcp or azure}" "${API_URL:?}"
overlay=deploy/kubernetes/overlays/$OVERLAY
if [ -n "${KUBE_CONFIG:-}" ]; then
  KUBECONFIG=$(mktemp)
  export KUBECONFIG
  trap 'rm -f "$KUBECONFIG"' EXIT
  printf %s "$KUBE_CONFIG" > "$KUBECONFIG"
fi
images=${CLOUD_REGISTRY:-$REGISTRY}
[ "$images" = "$REGISTRY" ] || deploy/release/images.sh copy
for part in api app mlflow pipeline; do
  (cd "$overlay" && kustomize edit set image "mlops-$part=$images/mlops-$part:$VERSION")
done
kubectl -n mlops delete job migrate --ignore-not-found
kubectl apply -k "$overlay"
if ! { kubectl -n mlops rollout status deployment/api --timeout=10m && python3 deploy/release/gate.py "$API_URL"; }; then
  echo "back to the version before" >&2
  kubectl -n mlops rollout undo deployment/api
  kubectl -n mlops rollout status deployment/api --timeout=10m
  exit 1
fi
kubectl -n mlops rollout status deployment/app --timeout=10m
