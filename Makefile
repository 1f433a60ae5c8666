# The same words for people and for CI.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup browser prometheus demo test check docs containers fuzz schema protos bench soak drill clean

help: ## say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet -e ".[cloud,device,sim,dev,docs]" -c constraints.txt
	touch $@

setup: $(STAMP) ## make the environment in .venv

browser: ## install the browser that the report is tested in (Debian, as root), where none is there
	@command -v chromium || command -v google-chrome || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

prometheus: ## install the Prometheus that the dashboard is tested with (Debian, as root), where none is there
	@command -v prometheus || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus; }

demo: $(STAMP) ## MovieLens-100K through the whole system: train, serve, replay on devices, report
	$(BIN)/concerto run --method base --method duet --log movielens-100k --devices 4 --seed 0 --out runs/demo

# Tests of a file share what is dear to make. In their own order, files with few and long tests do not all come last.
test: $(STAMP) ## run every test, a file at a time on each core
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## everything that CI checks: format, lint, types, floors, protos, dependencies, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(MAKE) --no-print-directory protos
	git diff --exit-code -- protos
	$(BIN)/deptry .
	$(MAKE) --no-print-directory docs
	$(MAKE) --no-print-directory test

containers: $(STAMP) ## build the images, and play in containers what is played without (needs an engine)
	CONCERTO_ENGINE=required $(BIN)/python -m pytest -s tests/containers

fuzz: $(STAMP) ## a million mutated inputs for all that is parsed from outside (half an hour)
	$(BIN)/python -m bench.fuzz

protos: $(STAMP) ## write the Python of protos/v1 anew
	$(BIN)/python -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=. --mypy_out=quiet:. --grpc_python_out=. --mypy_grpc_out=quiet:. protos/v1/*.proto

docs: $(STAMP) ## build the documentation site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

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

soak: $(STAMP) ## a million asks: the cloud's memory and files must not grow
	$(BIN)/python -m bench.soak

KILLS ?= 200
drill: $(STAMP) ## kill the cloud at random points and at every failpoint; prints what was lost (KILLS=20: minutes)
	$(BIN)/python -m bench.drill --kills $(KILLS)

clean: ## remove the environment and what runs left
	rm -rf $(VENV) runs site
