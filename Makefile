# edgecache: container images on edge nodes before the network goes.
# `make` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# A version begins with vX.Y.Z, or Kubernetes' libraries do not read it.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || echo v0.0.0-g$$(git rev-parse --short HEAD 2>/dev/null || echo unknown))
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(VERSION) -X k8s.io/component-base/version.gitCommit=$(COMMIT)

# RACE=-race runs tests, and the programs they start, with the race detector.
RACE ?=
# RUNTIME=containerd makes the demo use real containerd and kubelet (root, runc).
RUNTIME ?= layout
# PLATFORMS are what images are built for: make images PLATFORMS=linux/amd64
PLATFORMS ?= linux/amd64,linux/arm64,linux/arm/v7
# TESTFLAGS go to go test: make test TESTFLAGS='-run TestAPI -v'
TESTFLAGS ?=

# What is built of Kubernetes itself is built as the lab builds it: with other flags, or the race detector, a machine
# compiles all of it once more, for many minutes.
PLAIN := CGO_ENABLED=0 GOFLAGS=-trimpath

TOOL := go tool -modfile=go.tools.mod
API  := ./api/v1alpha1
CLIENT := api/client

.PHONY: help build demo test unit test32 e2e bench bench-fleet bench-placement bench-scheduler lint verify generate images clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the programs into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

demo: ## show the main job on this machine: no root, no runtime, no cluster (RUNTIME=containerd: real ones)
	@go run ./test/demo --runtime $(RUNTIME)

test: unit test32 e2e ## run all tests: unit, integration, and e2e where the machine can

unit: ## run unit and integration tests (real API server, etcd and registry)
	go test $(RACE) -timeout 25m $(TESTFLAGS) $$(go list ./... | grep -v -e '/test/e2e$$' -e '/cmd/edgecache-scheduler')
	$(PLAIN) go test $(TESTFLAGS) ./cmd/edgecache-scheduler/...

test32: ## run the store's tests as a 32-bit program, and build the agent for arm/v7
	@if [ "$$(go env GOHOSTARCH)" = amd64 ]; then CGO_ENABLED=0 GOARCH=386 go test ./edgeagent/store; \
	else echo "left out: only amd64 runs 386 programs, to test the store with 32 bits"; fi
	CGO_ENABLED=0 GOARCH=arm GOARM=7 go build -o /dev/null ./cmd/edgecache-agent

e2e: ## run the end-to-end tests on real containerd and kubelet (root, runc), or say why not
	@go run ./test/lab probe || true
	go test $(RACE) -timeout 25m -count=1 $(TESTFLAGS) ./test/e2e

bench: ## run the benchmarks and print the table of docs/benchmarks.md
	go test -run '^$$' -bench . -benchmem ./registrycheck/...
	go test -run WeekOffline -v ./edgeagent
	go test -run '^$$' -bench DeviceBytes -benchtime 300x ./edgeagent/store
	EDGECACHE_KILLS=1000 go test -count=1 -timeout 60m -run TestKilledAtRandom -v ./test/integration
	go run ./test/bench

bench-fleet: ## the same for fleets of 1,000 nodes with agents and 10,000 without (an hour on two cores)
	go run ./test/bench fleet

bench-placement: ## how soon pods are ready, on played fleets with the real scheduler (three quarters of an hour)
	go run ./test/bench placement

bench-scheduler: ## what the plugin costs a scheduler of 5,000 nodes: scheduler_perf with and without it (half an hour)
	go run ./test/bench scheduler

lint: ## golangci-lint, built from its module
	$(PLAIN) $(TOOL) golangci-lint run ./...

verify: ## fail when generated code, go.mod, formatting or lint is not as committed
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted: run gofmt -w on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go mod tidy -diff
	for m in test/lab/binaries test/lab/binaries/*/ test/bench/schedperf; do (cd "$$m" && go mod tidy -diff) || exit 1; done
	@$(MAKE) --no-print-directory generate
	@git diff --exit-code -- api charts docs/api.md || { echo "generated code differs from what is committed: commit the result of make generate"; exit 1; }
	@test -z "$$(git status --porcelain -- api charts docs/api.md)" || { git status --short -- api charts docs/api.md; echo "generated files are not committed"; exit 1; }
	$(PLAIN) go vet ./...
	@$(MAKE) --no-print-directory lint

generate: ## generate deep copies, clients, informers, apply configurations, CRDs and docs/api.md
	rm -rf $(CLIENT)
	$(TOOL) deepcopy-gen --output-file zz_generated.deepcopy.go $(API)
	$(TOOL) applyconfiguration-gen --output-pkg edgecache.dev/$(CLIENT)/applyconfiguration --output-dir $(CLIENT)/applyconfiguration $(API)
	$(TOOL) client-gen --clientset-name versioned --input-base edgecache.dev --input api/v1alpha1 \
		--apply-configuration-package edgecache.dev/$(CLIENT)/applyconfiguration \
		--output-pkg edgecache.dev/$(CLIENT)/clientset --output-dir $(CLIENT)/clientset
	$(TOOL) lister-gen --output-pkg edgecache.dev/$(CLIENT)/listers --output-dir $(CLIENT)/listers $(API)
	$(TOOL) informer-gen --output-pkg edgecache.dev/$(CLIENT)/informers --output-dir $(CLIENT)/informers \
		--versioned-clientset-package edgecache.dev/$(CLIENT)/clientset/versioned --listers-package edgecache.dev/$(CLIENT)/listers $(API)
	$(TOOL) controller-gen crd:crdVersions=v1 paths=$(API)/... output:crd:artifacts:config=charts/edgecache/crds
	$(TOOL) crd-ref-docs --log-level=ERROR --source-path=api/v1alpha1 --config=docs/crd-ref-docs.yaml --renderer=markdown --output-path=docs/api.md

images: ## build multi-arch OCI images of the programs into dist/images, without Docker
	go run ./internal/release images --version '$(VERSION)' --platforms '$(PLATFORMS)' --out dist/images

clean: ## remove what was built (the lab's programs too)
	rm -rf bin dist .cache
