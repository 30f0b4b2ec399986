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

.PHONY: help demo demo-stop readme-picture test test-long lint bench wheelhouse gpu-pack-cuda gpu-pack-vulkan clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "make test-long  also the tests that take minutes and need PyTorch"
	@echo "make lint       ruff, mypy, import directions"
	@echo "make bench      the figures of benchmarks/README.md, as ratios"
	@echo "make wheelhouse  packages for a bundle, with llama.cpp for any x86-64"
	@echo "make gpu-pack-cuda, gpu-pack-vulkan  llama.cpp for a kind of GPU, for a bundle; needs nvcc, or glslc"
	@echo "make readme-picture  take the picture of the README anew"
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

readme-picture: $(STAMPS)/base-model $(STAMPS)/chromium
	@$(PYTHON) -m tests.readme.take_picture

demo-stop:
	@APPLIANCE_HOME=$(CURDIR)/$(DEMO_HOME) $(PYTHON) -m appliance.cli.demo --stop

$(STAMPS)/nftables: $(STAMPS)/venv
	@tests/setup/nftables.sh
	@touch $@

test: $(STAMPS)/dev $(STAMPS)/base-model $(STAMPS)/chromium $(STAMPS)/strace $(STAMPS)/nftables
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not long"

test-long: $(STAMPS)/training $(STAMPS)/base-model $(STAMPS)/chromium $(STAMPS)/strace $(STAMPS)/nftables $(STAMPS)/go
	$(PYTHON) -m pytest -m "long or not long"

lint: $(STAMPS)/dev
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

bench: $(STAMPS)/bench
	$(PYTHON) -m benchmarks

# Packages for `appliance bundle create`; llama.cpp is compiled for any x86-64, about twenty minutes.
wheelhouse: $(STAMPS)/venv
	@.ci/wheelhouse wheelhouse $(PYTHON)

gpu-pack-cuda: $(STAMPS)/runtime
	@.ci/gpu-pack cuda gpu-packs $(PYTHON)

gpu-pack-vulkan: $(STAMPS)/runtime
	@.ci/gpu-pack vulkan gpu-packs $(PYTHON)

clean: demo-stop
	rm -rf $(VENV) .appliance build wheelhouse gpu-packs *.egg-info
