# The commands of the README. Every target sets up what it needs; a second run reuses it.
#   make demo       install, fetch the base model, de-identify a note, verify the log, leave a server running
#   make test       the whole suite, browser tests included (.ci/run calls this)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
APPLIANCE := $(VENV)/bin/appliance
DEMO_HOME := .appliance/demo
STAMPS := $(VENV)/.stamps

.PHONY: help demo demo-stop test test-long lint bench clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "make test-long  also the tests that take minutes and need PyTorch"
	@echo "make lint       ruff, mypy, import directions"
	@echo "make bench      the figures of benchmarks/README.md, as ratios"
	@echo "make demo-stop  stop the server that make demo left running"

$(STAMPS)/venv:
	@tests/setup/python.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# One stamp per set of extras: an edit of pyproject.toml installs again, nothing else does.
$(STAMPS)/runtime: $(STAMPS)/venv pyproject.toml
	@tests/setup/install.sh $(VENV) ""
	@touch $@

$(STAMPS)/dev: $(STAMPS)/runtime
	@tests/setup/install.sh $(VENV) "dev"
	@touch $@

$(STAMPS)/training: $(STAMPS)/dev
	@tests/setup/install.sh $(VENV) "dev,training"
	@touch $@

$(STAMPS)/bench: $(STAMPS)/training
	@tests/setup/install.sh $(VENV) "dev,training,bench"
	@touch $@

# The tests run the real base model; fetching it is set-up, so that the suite itself needs no network.
$(STAMPS)/base-model: $(STAMPS)/dev
	@$(PYTHON) tests/setup/base_model.py .cache/base-model
	@touch $@

$(STAMPS)/chromium: $(STAMPS)/venv
	@tests/setup/chromium.sh
	@touch $@

$(STAMPS)/strace: $(STAMPS)/venv
	@tests/setup/strace.sh
	@touch $@

$(STAMPS)/go: $(STAMPS)/venv
	@tests/setup/go.sh
	@touch $@

demo: $(STAMPS)/runtime
	@APPLIANCE_HOME=$(CURDIR)/$(DEMO_HOME) $(PYTHON) -m appliance.cli.demo

demo-stop:
	@APPLIANCE_HOME=$(CURDIR)/$(DEMO_HOME) $(PYTHON) -m appliance.cli.demo --stop

test: $(STAMPS)/dev $(STAMPS)/base-model $(STAMPS)/chromium $(STAMPS)/strace
	$(PYTHON) -m pytest -m "not long"

test-long: $(STAMPS)/training $(STAMPS)/base-model $(STAMPS)/chromium $(STAMPS)/strace $(STAMPS)/go
	$(PYTHON) -m pytest -m "long or not long"

lint: $(STAMPS)/dev
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

bench: $(STAMPS)/bench
	$(PYTHON) -m benchmarks

clean: demo-stop
	rm -rf $(VENV) .appliance build *.egg-info
