#!/bin/sh
# Puts the image's sources into the project's volume, where earlier runs have left data and DVC's cache, then runs.
set -eu
cp -R /opt/project/. .
mkdir -p .dvc
printf '[core]\n    no_scm = true\n' > .dvc/config.local
exec "$@"
