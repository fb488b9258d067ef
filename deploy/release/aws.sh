#!/usr/bin/env bash
# The stack on Fargate: ECS starts new tasks beside the old ones, and its circuit breaker takes them back.
# A version that starts and fails the gate is replaced by the one before. See docs/release.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${REGION:?}" "${CLOUD_REGISTRY:?}" "${API_URL:?}"
stack=${STACK:-mlops}
parameter() {
  aws cloudformation describe-stacks --region "$REGION" --stack-name "$stack" --output text \
    --query "Stacks[0].Parameters[?ParameterKey=='$1'].ParameterValue"
}
update() {  # parameters that are not named keep their values
  aws cloudformation deploy --region "$REGION" --stack-name "$stack" --template-file deploy/aws/template.yaml \
    --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset --parameter-overrides "Version=$1" "Registry=$CLOUD_REGISTRY"
}

aws ecr get-login-password --region "$REGION" | docker login --username AWS --password-stdin "${CLOUD_REGISTRY%%/*}"
deploy/release/images.sh copy
old=$(parameter Version)
update "$VERSION"
if ! python3 deploy/release/gate.py "$API_URL"; then
  echo "back to $old" >&2
  update "$old"
  exit 1
fi
