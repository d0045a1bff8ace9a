# What a developer types. `make help` tells.
CARGO  ?= cargo
ATTACK ?= ../shared/attack
DATE   ?= $(shell date -u +%Y-%m-%d)
BUNDLE  = enterprise-attack-18.1.json
FACTS   = enterprise-attack-19.2-facts.json

.PHONY: help build test lint data bench check

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: ## The program: target/release/ttpmap
	$(CARGO) build --release

test: ## Every test that needs nothing but this folder; more with ../shared or TTPMAP_SHARED
	$(CARGO) test --release

lint: ## Formatting and clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings

# The temporary copy keeps the name, from which the release is told.
data: ## The built-in knowledge base, from ATTACK=folder with DATE=YYYY-MM-DD
	set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	xz -dc $(ATTACK)/$(BUNDLE).xz > "$$tmp/$(BUNDLE)"; \
	$(CARGO) run --release -- kb build "$$tmp/$(BUNDLE)" --facts $(ATTACK)/$(FACTS) --curated data --facts-only \
	  --date $(DATE) -o data/enterprise.ttpkb

bench: build ## Times and memory of whole runs, into docs/benchmarks.md
	python3 benches/run.py

check: ## All that CI does
	bash .ci/run
