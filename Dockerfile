# One file, four images: api (answers), app (the page), mlflow (the registry), pipeline (everything, for batch runs).
# `make images` builds them; `docker build --target api .` builds one. Each gets what its lock lists, by hash, and no more.
ARG PYTHON=3.12
ARG DEBIAN=bookworm

# ---- what builds, and is in no image
FROM python:${PYTHON}-slim-${DEBIAN} AS build
ENV UV_LINK_MODE=copy UV_NATIVE_TLS=true UV_NO_PROGRESS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PATH=/opt/tools/bin:$PATH
WORKDIR /build
# binutils gets into no image, and Debian's mirrors keep one version of it only.
# hadolint ignore=DL3008
RUN --mount=type=bind,source=requirements/bootstrap.txt,target=bootstrap.txt --mount=type=cache,target=/root/.cache/pip \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils >/dev/null \
    && python -m venv /opt/tools && /opt/tools/bin/pip install -q --require-hashes -r bootstrap.txt

# Our own code as it lies in an environment: a layer of its own, so that an edit copies a megabyte.
FROM build AS code
COPY pyproject.toml README.md LICENSE ./
COPY mlops_core mlops_core
COPY api api
RUN /opt/tools/bin/python -m hatchling build -t wheel -d /wheel && uv venv -q /opt/venv \
    && uv pip install -q --python /opt/venv/bin/python --no-deps --offline --compile-bytecode --prefix /code /wheel/*.whl

FROM build AS api-packages
RUN --mount=type=bind,source=requirements/serve.txt,target=lock.txt --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=deploy/images,target=images \
    uv venv -q /opt/venv && uv pip install -q --python /opt/venv/bin/python --require-hashes -r lock.txt \
    && sh images/slim.sh /opt/venv && /opt/venv/bin/python images/compile.py

FROM build AS app-packages
RUN --mount=type=bind,source=requirements/app.txt,target=lock.txt --mount=type=cache,target=/root/.cache/uv \
    uv venv -q /opt/venv && uv pip install -q --python /opt/venv/bin/python --compile-bytecode --require-hashes -r lock.txt

FROM build AS mlflow-packages
RUN --mount=type=bind,source=requirements/mlflow.txt,target=lock.txt --mount=type=cache,target=/root/.cache/uv \
    uv venv -q /opt/venv && uv pip install -q --python /opt/venv/bin/python --compile-bytecode --require-hashes -r lock.txt

FROM build AS pipeline-packages
RUN --mount=type=bind,source=requirements/pipeline.txt,target=lock.txt --mount=type=cache,target=/root/.cache/uv \
    uv venv -q /opt/venv && uv pip install -q --python /opt/venv/bin/python --compile-bytecode --require-hashes -r lock.txt

# ---- what all images share: an account without rights, and a place to be
FROM python:${PYTHON}-slim-${DEBIAN} AS base
RUN groupadd --gid 10001 mlops && useradd --uid 10001 --gid mlops --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mlops \
    && install -d -o mlops -g mlops /srv/mlops/.mlops
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true DVC_NO_ANALYTICS=1
WORKDIR /srv/mlops

# ---- api
# (What is declared as a volume belongs to our account also where a cloud mounts it.)
FROM base AS api
COPY --from=api-packages /opt/venv /opt/venv
COPY dvc.yaml params.yaml ./
COPY --from=code /code /opt/venv
VOLUME ["/srv/mlops/.mlops", "/tmp"]
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["mlops", "serve", "--host", "0.0.0.0", "--port", "8000"]
ARG COMMIT=unknown
ARG LOCK=unknown
LABEL org.opencontainers.image.title="mlops-api" org.opencontainers.image.revision="${COMMIT}" mlops.lock="${LOCK}"

# ---- app
FROM base AS app
COPY --from=app-packages /opt/venv /opt/venv
COPY dvc.yaml params.yaml ./
COPY notebooks/10_frontend.ipynb notebooks/
COPY --from=code /code /opt/venv
VOLUME ["/tmp"]
USER 10001:10001
EXPOSE 8866
STOPSIGNAL SIGTERM
# A page would start a kernel for each look; a style sheet starts nothing.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8866/voila/templates/mlops/static/app.css', timeout=2)"]
CMD ["mlops", "app", "--host", "0.0.0.0", "--port", "8866"]
ARG COMMIT=unknown
ARG LOCK=unknown
LABEL org.opencontainers.image.title="mlops-app" org.opencontainers.image.revision="${COMMIT}" mlops.lock="${LOCK}"

# ---- mlflow
FROM base AS mlflow
RUN install -d -o mlops -g mlops /srv/mlops/artifacts
COPY --from=mlflow-packages /opt/venv /opt/venv
ENV MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_ARTIFACTS_DESTINATION=/srv/mlops/artifacts \
    MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX="^(mlflow-artifacts:|models:/).*"
VOLUME ["/tmp"]
USER 10001:10001
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=2)"]
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", \
     "--allowed-hosts", "mlflow:5000,localhost:5000,127.0.0.1:5000"]
ARG COMMIT=unknown
ARG LOCK=unknown
LABEL org.opencontainers.image.title="mlops-mlflow" org.opencontainers.image.revision="${COMMIT}" mlops.lock="${LOCK}"

# ---- pipeline
FROM base AS pipeline
COPY --from=pipeline-packages /opt/venv /opt/venv
COPY . /opt/project
COPY --from=code /code /opt/venv
COPY --chmod=755 deploy/compose/pipeline.sh /usr/local/bin/pipeline
# A run writes into its project; the volume that holds it gets this version's sources at each start.
RUN install -d -o mlops -g mlops /srv/project
WORKDIR /srv/project
VOLUME ["/srv/project", "/tmp"]
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["pipeline"]
CMD ["mlops", "run"]
ARG COMMIT=unknown
ARG LOCK=unknown
ENV MLOPS_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="mlops-pipeline" org.opencontainers.image.revision="${COMMIT}" mlops.lock="${LOCK}"
