# `make` alone lists what there is. Everything installs itself into .venv; nothing needs the internet afterwards.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv

# Without byte code every process compiles MLflow again: 3 seconds each.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help setup run test test-fast serve app lab ui rehearse bench lint format lock readme clean images passwords up down batch docker-test certificate backup restore smoke notebooks metrics-diff comment tools push pull sign publish verify deploy sbom scan
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

run: .venv/all ## the whole series on the flights, then a summary
	@mlops run --dataset flights

# Small enough for every change that is proposed, large enough that the champion must still beat every baseline. One worker:
# two finish in either order, so that the search, and the comparison with another commit, would differ by chance.
SMOKE := tune.trials=4 tune.workers=1 tune.seconds=120 tune.rows=20000 tune.families=[boosting] train.bootstrap=30 serve.requests=100 serve.swaps=1 frontend.changes=20 frontend.pictures=false

smoke: .venv/all ## the series on a small budget; `git checkout params.yaml` gives the large one back
	@mlops run $(SMOKE:%=--set %)

notebooks: .venv/all ## every notebook on its whole budget, whether or not anything changed
	@mlops run --force

metrics-diff: .venv/all ## after make smoke: its metrics against those of BASE (origin/main) on the same budget
	@.ci/metrics-diff

comment: # reports/metrics-diff.md below the pull request PULL_REQUEST, in place of the last one
	@head -c 60000 reports/metrics-diff.md | gh pr comment "$$PULL_REQUEST" --edit-last --create-if-none --body-file -

tools: ## the programs that some tests drive: a browser, Prometheus, HAProxy
	@.ci/tools

test: .venv/dev ## all tests
	@pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: .venv/dev ## the tests that need no run of the series
	@pytest -n 2 -m "not slow"

serve: .venv/all ## the API on http://127.0.0.1:8000, its pages on /docs
	@mlops serve

app: .venv/all ## the web page on http://127.0.0.1:8866, and the API where none runs
	@mlops app

lab: .venv/all ## JupyterLab on the notebooks
	@jupyter lab notebooks/01_ingest.ipynb

ui: .venv/all ## MLflow's pages on http://127.0.0.1:5000
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000 --workers 1

rehearse: .venv/all ## releases of the API acted out behind a proxy, good and bad; needs haproxy
	@mlops rehearse

bench: .venv/dev ## the benchmarks, each beside its floor
	@python -m benchmarks

lint: .venv/dev ## ruff, mypy, import layers, notebook rules, deploy/, workflows
	@ruff format --check . && ruff check .
	@mypy
	@lint-imports --no-logo
	@pytest -q -m "not slow" tests/test_notebooks.py tests/cloud
	@check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
	@zizmor -q --offline --strict-collection .github

format: .venv/dev ## put the code into the one style
	@ruff format . && ruff check --fix .

# ---- containers: these need a Docker engine with compose v2, and nothing else of this file
IMAGES := api app mlflow pipeline
LOCK_api := serve
LOCK_app := app
LOCK_mlflow := mlflow
LOCK_pipeline := pipeline
COMMIT = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
TAG ?= local
COMPOSE = COMMIT=$(COMMIT) TAG=$(TAG) docker compose

# CI keeps layers in a registry: CACHE_FROM is where they are looked for, CACHE_TO where they are left.
CACHE = $(if $(CACHE_FROM),--load --cache-from type=registry$(comma)ref=$(CACHE_FROM)/mlops-$*:cache) $(if $(CACHE_TO),--cache-to type=registry$(comma)ref=$(CACHE_TO)/mlops-$*:cache$(comma)mode=max)
comma := ,

images: $(IMAGES:%=image-%) ## build the images of all parts

image-%:
	@docker build -q --target $* $(CACHE) --build-arg COMMIT=$(COMMIT) --build-arg LOCK=$$(sha256sum requirements/$(LOCK_$*).txt | cut -d' ' -f1) -t mlops-$*:$(TAG) . >/dev/null
	@docker image inspect -f 'mlops-$*:$(TAG) {{.Size}} bytes' mlops-$*:$(TAG)

passwords:
	@$(PYTHON) deploy/compose/environment.py .env

up: passwords images ## start the compose stack: API on :8000, page on :8866
	@$(COMPOSE) up -d --remove-orphans
	@deploy/compose/look.sh

down: ## stop the compose stack; its volumes stay
	@$(COMPOSE) --profile '*' down

batch: passwords image-pipeline ## the series in its container, into the stack's registry
	@$(COMPOSE) run --rm pipeline mlops run $(ARGS)

docker-test: .venv/dev ## build every image, run the stack, kill each part of it, put a backup back
	@pytest -x -ra -o addopts= --strict-markers tests/docker

certificate: ## a self-signed certificate for the front door (COMPOSE_PROFILES=tls make up)
	@mkdir -p -m 700 deploy/compose/tls
	@openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=$${DOOR_NAME:-localhost}" \
	  -addext "subjectAltName=DNS:$${DOOR_NAME:-localhost},IP:127.0.0.1" -keyout deploy/compose/tls/key.pem -out deploy/compose/tls/cert.pem 2>/dev/null
	@cat deploy/compose/tls/cert.pem deploy/compose/tls/key.pem > deploy/compose/tls/door.pem
	@echo "deploy/compose/tls/door.pem, for 90 days; callers must be told to trust it"

sbom: .venv/dev ## what is in each image, as CycloneDX, into reports/sbom
	@deploy/images/sbom.sh $(TAG)

scan: .venv/dev ## known weaknesses of what the images install; asks the internet, and says no to any without a reason
	@deploy/images/scan.sh

backup: ## copy databases and artefacts of the stack into backups/; it stands still for some seconds
	@deploy/compose/backup.sh

restore: ## put a backup back: make restore FROM=backups/….tar
	@deploy/compose/restore.sh "$(FROM)"

# ---- releases: the images that CI tested, on their way to where they run; deploy/release says what each needs
push pull sign publish verify: # images by commit into and out of REGISTRY; signed, named VERSION; signatures looked at
	@deploy/release/images.sh $@

deploy: ## release VERSION to TO (gcp, aws, kubernetes) behind gates, and back by itself when one fails
	@case "$$TO" in gcp|aws|kubernetes) exec "deploy/release/$$TO.sh" ;; *) echo "make deploy TO=gcp, aws or kubernetes" >&2; exit 2 ;; esac

readme: .venv/dev ## write the numbers in README.md from the last run
	@python -m benchmarks.readme

lock: .venv/uv ## resolve the dependencies again
	@printf 'uv\nhatchling\neditables\n' | $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header - -o requirements/bootstrap.txt
	@for set in all:--extra=pipeline dev:--extra=pipeline\ --extra=dev pipeline:--extra=pipeline\ --extra=aws\ --constraint=requirements/dev.txt \
	  app:--extra=app\ --constraint=requirements/all.txt serve:--extra=serve\ --constraint=requirements/all.txt mlflow:--extra=mlflow\ --constraint=requirements/dev.txt; do \
	  $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    pyproject.toml $${set#*:} -o requirements/$${set%%:*}.txt; done

clean: ## remove what a run made, keep the environment
	@rm -rf data/raw data/quarantine data/processed data/models .mlops mlflow.db mlartifacts .dvc/cache .dvc/tmp
	@git clean -qfdX reports

setup: .venv/all ## install without running anything

.venv/uv: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, " + sys.version.split()[0] + " was found: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# Only what is missing is installed; the lock files hold hashes, and no addresses.
.venv/all: .venv/uv requirements/all.txt pyproject.toml $(shell find mlops_core/frontend/voila mlops_core/pipeline/jupyter -type f)
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/all.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/all requirements/dev.txt
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@
