# The same words for people and for CI.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup browser demo test check schema protos bench clean

help: ## say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet -e ".[cloud,device,sim,dev]" -c constraints.txt
	touch $@

setup: $(STAMP) ## make the environment in .venv

browser: ## install the browser that the report is tested in (Debian, as root), where none is there
	@command -v chromium || command -v google-chrome || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

demo: $(STAMP) ## MovieLens-100K through the whole system: train, serve, replay on devices, report
	$(BIN)/concerto run --method base --method duet --log movielens-100k --devices 4 --seed 0 --out runs/demo

test: $(STAMP) ## run every test, a part on each core
	$(BIN)/python -m pytest -n logical --dist loadgroup

check: $(STAMP) ## everything that CI checks: format, lint, types, floors, protos, dependencies, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(MAKE) --no-print-directory protos
	git diff --exit-code -- protos
	$(BIN)/deptry .
	$(MAKE) --no-print-directory test

protos: $(STAMP) ## write the Python of protos/v1 anew
	$(BIN)/python -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=. --mypy_out=quiet:. --grpc_python_out=. --mypy_grpc_out=quiet:. protos/v1/*.proto

schema: $(STAMP) ## write the JSON schema of metrics.json anew
	$(BIN)/python -m simulator.metrics_model > docs/schema/metrics.schema.json

bench: $(STAMP) ## measure speed, links, memory, learning, neighbour lists and quality; prints ratios (an hour and more)
	$(BIN)/python -m bench.replay
	$(BIN)/python -m bench.service
	$(BIN)/python -m bench.gpu
	$(BIN)/python -m bench.links
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.learning
	$(BIN)/python -m bench.neighbours
	$(BIN)/python -m bench.memory_store
	$(BIN)/python -m bench.quality

clean: ## remove the environment and what runs left
	rm -rf $(VENV) runs
