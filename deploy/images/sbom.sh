#!/bin/sh
# What is in each image, said by the image itself and written as CycloneDX; the base's Debian packages are its publisher's to list.
set -eu
mkdir -p reports/sbom
for image in api app mlflow pipeline; do
    docker run --rm --network none --entrypoint python "mlops-$image:$1" -c '
from importlib.metadata import distributions
print(*sorted({f"{one.name}=={one.version}" for one in distributions()}), sep="\n")' > "reports/sbom/$image.txt"
    cyclonedx-py requirements --output-reproducible --sv 1.6 --of JSON -o "reports/sbom/$image.json" "reports/sbom/$image.txt"
    rm "reports/sbom/$image.txt"
    echo "reports/sbom/$image.json"
done
