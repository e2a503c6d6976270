# Everything that people do with this repository. CI runs the same targets.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
BASE     = $(shell $(GO) list ./pkg/base)
LDFLAGS  = -s -w -X $(BASE).version=$(VERSION) -X $(BASE).commit=$(COMMIT)
# Linters have a go.mod of their own, so that a fork's module graph stays clean.
TOOLS    = -modfile=.ci/tools/go.mod
# So have the tests with Toxiproxy.
FAULTS   = pkg/web/toxitest
# The tests in the files with the build tag long.
LONG     = $(shell sed -n 's/^func \(Test[A-Za-z0-9]*\).*/\1/p' $$(grep -l '^//go:build long' internal/testapp/*_test.go) | paste -sd '|' -)
COMPOSE  = VERSION='$(VERSION)' COMMIT='$(COMMIT)' docker compose

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start the app in this terminal
	$(GO) run ./app

build: ## build static, stripped binaries: bin/app, bin/monitor
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./app ./cmd/monitor

test: ## all tests, with the race detector, in random order
	$(GO) test -race -shuffle=on ./...

long: ## what drives the real program for minutes: kills, signals, a log that nobody reads, services that hang; 6 minutes
	$(GO) test -race -tags long -count=1 -shuffle=on -timeout 30m -run '^($(LONG))$$' ./internal/testapp

fork-test: ## make a fork with ten ordinary changes, and show that it builds and passes; it compiles everything once more, 6 minutes
	$(GO) test -tags fork -count=1 -v -timeout 30m ./internal/forktest

parts: ## take out each part that a fork can do without, by itself, and build what is left, 2 minutes
	$(GO) test -tags parts -count=1 -v -run TestAPart .

cluster: ## test the files for several machines: compose overlays, manifests, NATS; it fetches modules of its own
	cd docker/cluster && $(GO) test -count=1 -shuffle=on ./...

faults: ## the HTTP client over connections that misbehave, with the race detector, 10 s
	cd $(FAULTS) && $(GO) test -race -shuffle=on ./...

observability-test: ## test the rules, the alerts and the dashboard with a real Prometheus, 40 s; it fetches modules of its own
	cd docker/observability && $(GO) test -count=1 -shuffle=on ./...

collector: ## run the collector on its configuration, and note that it was; it compiles for minutes
	cd docker/observability/collector && $(GO) vet ./... && $(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod staticcheck ./...
	cd docker/observability/collector && $(GO) test -count=1 ./... -args -update

demo: ## the walk-through of docs/demo.md as a test, with a PostgreSQL of its own, 20 s; it fetches modules of its own
	cd examples/demo && $(GO) test -count=1 -shuffle=on ./...

bench: ## benchmarks; docs/performance.md says what they mean
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## fuzz each parser for 30 s
	@$(GO) list ./... | while read -r p; do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s -fuzzminimizetime 1s $$p || exit 1; done; done

lint: ## gofmt, vet, staticcheck, shellcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted, run gofmt -w:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e,long,fork,parts . ./docker/... ./internal/...
	$(GO) tool $(TOOLS) staticcheck ./...
	$(GO) tool $(TOOLS) staticcheck -tags e2e,long,fork,parts . ./docker/... ./internal/...
	cd docker/cluster && $(GO) vet ./... && $(GO) tool -modfile=../../.ci/tools/go.mod staticcheck ./...
	cd docker/observability && $(GO) vet ./... && $(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod staticcheck ./...
	cd examples/demo && $(GO) vet ./... && $(GO) tool -modfile=../../.ci/tools/go.mod staticcheck ./...
	cd $(FAULTS) && $(GO) vet ./... && $(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod staticcheck ./...
	@scripts=$$(git ls-files '*.sh' .ci/run); shellcheck $$scripts

up: ## build the image, start the container, and wait until it is healthy
	$(COMPOSE) up -d --build --wait

observability: ## start the container and all that watches it: docs/observability.md
	$(COMPOSE) -f docker-compose.yml -f docker/compose.observability.yml up -d --build --wait

down: ## stop the container and remove it; its data stay
	$(COMPOSE) down

logs: ## follow the container's log
	$(COMPOSE) logs -f --no-log-prefix

shell: ## a shell in the running container
	$(COMPOSE) exec app bash

image: ## build the image
	$(COMPOSE) build

e2e: ## test the container on this machine's Docker engine, 4 minutes; docs/container.md has the figures
	$(GO) test -tags e2e -count=1 -v -timeout 15m ./docker/e2e

cover: ## coverage of the tests, by package and in all
	$(GO) test -coverprofile=cover.out -coverpkg=./pkg/...,./app/...,./cmd/... ./... | tail -n +1
	$(GO) tool cover -func=cover.out | tail -n 1

docs: ## generate docs/settings.md and docs/metrics.md
	$(GO) run ./app config --markdown > docs/settings.md
	$(GO) test ./pkg/telemetry -run TestTheDocsAreTheTable -args -update

clean: ## remove what the other targets made
	rm -rf bin cover.out

.PHONY: help run build test long fork-test parts cluster faults observability-test collector observability demo bench fuzz lint up down logs shell image e2e cover docs clean
