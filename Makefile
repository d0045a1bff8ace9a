# What a developer types. `make help` tells.
CARGO  ?= cargo
ATTACK ?= ../shared/attack
EVAL   ?= ../shared/eval
TEXTS  ?= ../shared/train
MODEL  ?= models/encoder.ttpmodel
KB     ?= data/enterprise.ttpkb
TRAIN  ?=
DATE   ?= $(shell date -u +%Y-%m-%d)
BUNDLE  = enterprise-attack-18.1.json
FACTS   = enterprise-attack-19.2-facts.json

.PHONY: help build test lint data encoder lexicon-report bench check

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## The program: target/release/ttpmap
	$(CARGO) build --release

test: ## Every test that needs nothing but this folder; more with ../shared or TTPMAP_SHARED
	$(CARGO) test --release

lint: ## Formatting and clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings

# What it learns from: ATT&CK's bundle and fact table, data/ and the labelled reports. The temporary copy of the bundle
# keeps its name, from which the release is told. Takes some two minutes.
data: build ## The built-in knowledge base, from ATTACK= and EVAL= folders with DATE=YYYY-MM-DD
	set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	xz -dc $(ATTACK)/$(BUNDLE).xz > "$$tmp/$(BUNDLE)"; \
	for set in many-vendors-train tram-a annoctr-train; do xz -dc $(EVAL)/$$set.jsonl.xz > "$$tmp/$$set.jsonl"; done; \
	target/release/ttpmap kb build "$$tmp/$(BUNDLE)" --facts $(ATTACK)/$(FACTS) --curated data --facts-only \
	  --train data --train-reports "$$tmp/many-vendors-train.jsonl" --train-others "$$tmp/tram-a.jsonl" \
	  --train-others "$$tmp/annoctr-train.jsonl" --date $(DATE) $(TRAIN) -o $(KB)

encoder: build ## The encoder's model file, models/encoder.ttpmodel, and the built-in knowledge base; hours
	ATTACK=$(ATTACK) EVAL=$(EVAL) TEXTS=$(TEXTS) DATE=$(DATE) BUNDLE=$(BUNDLE) FACTS=$(FACTS) KB=$(KB) MODEL=$(MODEL) tools/encoder/run.sh

lexicon-report: build ## How often each phrase and rule fires in the labelled reports, and is right
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	xz -dc $(EVAL)/many-vendors-train.jsonl.xz > "$$tmp/reports.jsonl"; \
	target/release/ttpmap kb lexicon-report --rules --curated data --reports "$$tmp/reports.jsonl"

bench: build ## Times and memory of whole runs, into docs/benchmarks.md
	python3 benches/run.py

check: ## All that CI does
	bash .ci/run
