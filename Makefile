# Shortcuts for development. Nothing here is needed to run the system. CONTRIBUTING.md describes the targets.

VENV = .venv-dev
PIP_COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

# Lock file in deploy/requirements: its extras of pyproject.toml.
LOCKS = base:demo local:local otel:demo,otel dev:dev bench:bench

.PHONY: run test ci lint format generate lock bench up down status rolling-restart sbom

run:
	./deploy/local

test:
	./tests/run $(ARGS)

ci:
	.ci/run

lint: $(VENV)
	$(VENV)/bin/ruff check && $(VENV)/bin/ruff format --check && $(VENV)/bin/mypy

format: $(VENV)
	$(VENV)/bin/ruff format && $(VENV)/bin/ruff check --fix

generate: $(VENV)
	PYTHONPATH=app $(VENV)/bin/python -m deploy.generate

lock: $(VENV)
	for lock in $(LOCKS); do extras=--extra=$$(echo $${lock#*:} | sed 's/,/ --extra=/g'); $(PIP_COMPILE) $(ARGS) $$extras -o deploy/requirements/$${lock%:*}.lock pyproject.toml || exit 1; done

bench:
	./tests/bench/run $(ARGS)

up:
	docker compose up --build --detach

down:
	docker compose down

status:
	.venv/bin/slowpool status

rolling-restart:
	./deploy/rolling-restart $(ARGS)

sbom:
	./deploy/sbom > sbom.json

$(VENV):
	python3 -m tests.support.venv
