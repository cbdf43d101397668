# make help lists the targets. Go alone is enough for build, demo and test.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO          ?= go
BIN         := bin
CACHE       := .cache
TOOLS       := $(CACHE)/bin
VERSION     ?=
# A release is built without local paths; any other build shares its cache with the tests.
BUILDFLAGS  := $(if $(VERSION),-trimpath -ldflags '-s -w -X main.release=$(VERSION)',-ldflags '-s -w')
PKGS        := ./...

# The product is built without cgo; the race detector is the one thing that needs it.
export CGO_ENABLED := 0

# Pinned tools, installed into $(TOOLS) by the go command.
GOLANGCI_VERSION := v2.15.0

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/expunge (VERSION=v1.2.3 for a release)
	$(GO) build $(BUILDFLAGS) -o $(BIN)/expunge ./cmd/expunge

.PHONY: demo
demo: build ## Make a lakehouse in demo/ and run the nightly job on it
	$(BIN)/expunge demo --dir demo --rows 3M

.PHONY: test
test: ## Everything that needs nothing but Go
	$(GO) test -timeout 20m $(PKGS)

.PHONY: check
check: fmt-check vet lint tidy-check race ## Format, vet, lint with the import arrows, module tidiness, race

.PHONY: fmt
fmt: ## Format the sources
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

.PHONY: fmt-check
fmt-check:
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$bad" ]; then echo "not formatted (make fmt):"; echo "$$bad"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet $(PKGS)

.PHONY: lint
lint: $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION) ## golangci-lint, import arrows included
	$< run --allow-parallel-runners

# Packages whose tests start goroutines on shared data. Race is slow: the rest has none to find.
RACE ?= ./configs/... ./cmd/... ./engine/... ./jobs/... ./keyset/... ./scanner/... ./rewriter/... ./verifier/... ./manifests/... ./warehouse/... ./internal/storage/... ./internal/state/...

.PHONY: race
race: ## Tests under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m $(RACE)

.PHONY: tidy-check
tidy-check: ## go.mod and go.sum are tidy and the modules are what they were
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: fuzz
FUZZTIME ?= 30s
fuzz: ## Run every fuzz target for FUZZTIME
	@$(GO) list $(PKGS) | while read -r pkg; do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

.PHONY: interop
interop: ## Other engines and servers: PyIceberg, Spark, DuckDB, Nessie, PostgreSQL, S3
	interop/setup.sh
	$(GO) test -tags interop -count 1 -timeout 40m ./interop/...

.PHONY: bench
bench: ## Benchmarks of this machine's Go code
	$(GO) test -run '^$$' -bench . -benchmem $(PKGS)

# ONLY='^zstd' measures some cases, ROUNDS=5 more often; the report always shows the last result of each.
ONLY   ?=
ROUNDS ?= 3
.PHONY: bench-parquet
bench-parquet: build ## Parquet beside cp and DuckDB: docs/benchmarks.md (12 GB of disk, Python)
	[ -x $(CACHE)/interop/venv/bin/python ] || interop/setup.sh
	$(GO) build -o $(BIN)/bench-parquet ./bench/parquet
	$(BIN)/bench-parquet -only '$(ONLY)' -rounds $(ROUNDS)

.PHONY: bench-objects
bench-objects: ## Objects beside Python and DuckDB; bytes over the wire (needs interop/setup.sh)
	$(GO) run ./bench/objects $(BENCHFLAGS)

.PHONY: bench-verify
bench-verify: ## The verifier's re-scan beside the scanner: docs/benchmarks.md (half a minute)
	$(GO) run ./bench/verify $(BENCHFLAGS)

.PHONY: bench-evidence
bench-evidence: ## What evidence and manifest add to a run's CPU: docs/benchmarks.md (some minutes)
	$(GO) build -o $(BIN)/bench-evidence ./bench/evidence
	$(BIN)/bench-evidence $(BENCHFLAGS)

# PHASES=scan goes on where the last one ended.
PHASES ?= make,expunge,spark,scan
.PHONY: bench-compact
bench-compact: build ## Compaction beside Spark: docs/benchmarks.md (10 GB of disk, Python, Java)
	interop/setup.sh
	$(GO) run ./bench/compact -phases $(PHASES)

.PHONY: ci
ci: ## What CI runs
	.ci/run

.PHONY: clean
clean: ## Remove what make built; tools and downloads stay in .cache
	rm -rf $(BIN) demo

$(TOOLS)/golangci-lint-$(GOLANGCI_VERSION):
	@mkdir -p $(TOOLS)
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/golangci-lint $@
