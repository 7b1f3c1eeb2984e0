# `make` lists what can be made. What a target needs is installed by scripts/, in
# pinned versions, when it is missing.

VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS    := -s -w -X main.version=$(VERSION)
BENCH      ?= .
BENCHTIME  ?= 2s
BENCHCOUNT ?= 1
FUZZTIME   ?= 30s
DEMO_ARGS  ?=
BENCH_ARGS ?=
FUZZ_ARGS  ?=

# What the build needs is in this checkout: no workspace of a folder above takes part.
export GOWORK := off

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target what; do \
		printf '  make %-14s %s\n' "$$target" "$$what"; done

.PHONY: build
build: ## Build bin/reservoir
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/reservoir ./cmd/reservoir

.PHONY: demo
demo: build ## A shop publishes events; Reservoir archives, projects, rebuilds, verifies and replays them (DEMO_ARGS="--input FILE.jsonl" for your own)
	@scripts/install-tools.sh demo
	@bin/reservoir demo $(DEMO_ARGS)

.PHONY: test
test: tools vet lint ## All checks and tests, with the race detector, against real servers
	CGO_ENABLED=1 go test -race -timeout 20m ./...

.PHONY: test-short
test-short: ## Only the tests that need no server, in seconds
	go test -short -timeout 5m ./...

.PHONY: test-long
test-long: tools ## Kills, and rebuilds under writes, in full, for an hour or so
	CGO_ENABLED=1 go test -race -timeout 90m ./rebuild ./internal/e2e -long

.PHONY: screens
screens: tools ## The page in headless Chromium, as a person uses it; pictures of every page, wide and narrow, light and dark, in build/screens
	go test ./httpapi/web -run TestBrowser -screens -count 1 -v

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: ## golangci-lint, with the rules of .golangci.yml
	@scripts/install-tools.sh lint
	.cache/bin/golangci-lint run

.PHONY: fmt
fmt: ## Format the code
	@scripts/install-tools.sh lint
	.cache/bin/golangci-lint fmt

.PHONY: generate
generate: ## Make again what is generated from the code
	go generate ./...

.PHONY: bench
bench: tools ## All benchmarks (BENCH=regexp BENCHTIME=2s BENCHCOUNT=1)
	go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(BENCHCOUNT) -timeout 60m ./...

.PHONY: bench-api
bench-api: tools ## 50 clients of the API for a minute, beside a running archiver, rebuild and replay
	go run ./internal/bench api $(BENCH_ARGS)

.PHONY: bench-archive
bench-archive: tools ## Speed of reading, encoding and archiving, against the ceiling and a naive archiver (BENCH_ARGS="-events N -rounds N")
	go run ./internal/bench archive $(BENCH_ARGS)

.PHONY: bench-memory
bench-memory: tools ## Peak memory over 0.5 and 5 million entries, over large values, and over 5 and 50 million small ones
	go run ./internal/bench memory $(BENCH_ARGS)
	go run ./internal/bench many

.PHONY: bench-rebuild
bench-rebuild: tools ## Speed of rebuilds of projections, against one INSERT SELECT by hand; folds; scopes (BENCH_ARGS="-events N -rounds N")
	go run ./internal/bench rebuild $(BENCH_ARGS)

.PHONY: bench-replay
bench-replay: tools ## Speed of replays into Redis, against plain pipelined XADD; bytes read; memory
	go run ./internal/bench replay $(BENCH_ARGS)

.PHONY: bench-scale
bench-scale: tools ## A busy stream alone and among 10,000 quiet ones
	go run ./internal/bench scale $(BENCH_ARGS)

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME=30s each
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: fuzz-api
fuzz-api: tools ## 20,000 requests to the API, made up from its document (FUZZ_ARGS="-seed 2")
	go test ./httpapi -run TestMadeUpRequests -requests 20000 -timeout 2h -v $(FUZZ_ARGS)

.PHONY: tools
tools: ## Install the linter, the test servers and the browser, if missing
	@scripts/install-tools.sh test

.PHONY: clean
clean: ## Remove what was built; .cache, with the installed tools, stays
	rm -rf bin build
