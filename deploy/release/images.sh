#!/usr/bin/env bash
# The four images on their way from CI to a cloud: named by commit, signed and promoted by digest, never built again.
# REGISTRY is where they lie; VERSION the release; SIGNER the workflow whose signature counts.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${REGISTRY:?is where the images lie, for example ghcr.io/name}"
commit=$(git rev-parse HEAD)

digest_of() { docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"; }
# The very bytes under another name: an index around them would have another digest, and no signature.
name() { docker buildx imagetools create --prefer-index=false -t "$2" "$1"; }

for part in api app mlflow pipeline; do
  image=$REGISTRY/mlops-$part
  case $1 in
    push)
      docker tag "mlops-$part:${TAG:-local}" "$image:$commit"
      docker push -q "$image:$commit" ;;
    pull)
      docker pull -q "$image:$commit" || { echo "CI has not pushed $image for $commit: was it green on main?" >&2; exit 1; }
      docker tag "$image:$commit" "mlops-$part:${TAG:-local}" ;;
    sign)
      digest=$(digest_of "$image:$commit")
      cosign sign --yes "$image@$digest"
      cosign attest --yes --type cyclonedx --predicate "reports/sbom/$part.json" "$image@$digest" ;;
    publish)
      digest=$(digest_of "$image:$commit")
      name "$image@$digest" "$image:${VERSION:?}"
      echo "$image:$VERSION is $digest" ;;
    verify)
      cosign verify --certificate-identity "${SIGNER:?}" --certificate-oidc-issuer https://token.actions.githubusercontent.com \
        "$image@$(digest_of "$image:${VERSION:?}")" >/dev/null
      echo "$image:$VERSION is signed by $SIGNER" ;;
    copy)
      name "$image@$(digest_of "$image:${VERSION:?}")" "${CLOUD_REGISTRY:?}/mlops-$part:$VERSION" ;;
    *) echo "push, pull, sign, publish, verify or copy?" >&2; exit 2 ;;
  esac
done
