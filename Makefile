# sipwake. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What is set up is kept here, outside the checkout: Go, Kamailio, Redis, Prometheus, linters.
export SIPWAKE_CACHE ?= $(HOME)/.cache/sipwake
export PATH := $(SIPWAKE_CACHE)/bin:$(SIPWAKE_CACHE)/go/bin:$(PATH)

GOLANGCI_LINT := v2.15.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
LDFLAGS := -s -w -X main.version=$(VERSION)
# gRPC's own service discovery and tracing, which nothing here uses: a quarter of the program.
TAGS := disable_grpc_modules,grpcnotrace
GOVULNCHECK := v1.1.4
PROXY ?= kamailio
STORE ?= local
# So many tests run at once: most of the time they wait for a proxy or a clock.
PARALLEL ?= 8
ARCH ?= $(shell go env GOARCH 2>/dev/null)

.PHONY: help setup build deb demo up interop chaos test test-fast test-opensips features lint fuzz bench bench-quick bench-parts dashboards watch screenshots audit licenses clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## set up what is missing to build and test (Go, Kamailio, Redis, Prometheus)
	@tests/setup/setup.sh

build: setup ## build bin/sipwake and bin/sipwake-lab
	@CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/sipwake ./cmd/sipwake-lab

deb: setup ## build dist/sipwake_VERSION_ARCH.deb, a Debian package; ARCH=arm64 for another machine
	@tests/setup/nfpm.sh
	@CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o dist/$(ARCH)/ ./cmd/sipwake
	@export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s); \
		version=$$(deploy/deb/version.sh '$(VERSION)' "$$(date -u -d "@$$SOURCE_DATE_EPOCH" +%Y%m%d%H%M)"); \
		deploy/deb/build.sh dist/$(ARCH)/sipwake "$$version" $(ARCH) dist

demo: build ## make real calls through a real proxy (PROXY) wake simulated phones; STORE=redis for a real Redis, PBX=asterisk behind a gateway
	@[ '$(PBX)' != asterisk ] || tests/setup/asterisk.sh
	@bin/sipwake-lab demo --sipwake bin/sipwake --proxy $(PROXY) --store $(STORE) --pbx '$(PBX)'

up: build ## keep a proxy, sipwake, push services and phones running until Ctrl-C, and do with them what curl asks
	@bin/sipwake-lab up --sipwake bin/sipwake --proxy $(PROXY) --store $(STORE)

interop: build ## make calls with clients made by others: JsSIP, baresip, SIPp, through a real Kamailio
	@tests/setup/interop.sh
	@bin/sipwake-lab interop --sipwake bin/sipwake

chaos: build ## break part after part while calls flow, and count what is lost (about 5 minutes; LONG=1 an hour; SEED=n repeats a run)
	@bin/sipwake-lab chaos --sipwake bin/sipwake --seed $(or $(SEED),0) $(if $(LONG),--duration 1h)

test: build ## run every test: unit, race, real Redis, real Kamailio
	@tests/setup/nfpm.sh
	@tests/setup/chromium.sh || echo 'test: there is no Chromium, so the tests of the pages in a browser skip' >&2
	@tests/setup/asterisk.sh || echo 'test: there is no Asterisk, so its tests skip' >&2
	@tests/setup/nghttpd.sh || echo 'test: there is no nghttpd, so its test skips' >&2
	@go vet ./...
	@logs=$$(mktemp -d) && trap 'rm -rf "$$logs"' EXIT && \
		SIPWAKE_TEST_LOGS=$$logs SIPWAKE_REQUIRE_ALL=1 go test -race -parallel $(PARALLEL) -timeout 20m ./tests ./... && bin/sipwake-lab leaks "$$logs"
	@go test -run TestAllocations ./rpc ./internal/pnparam ./internal/node ./push/... ./internal/store/local # the race detector allocates too

test-fast: setup ## run what needs no SIP proxy, without the race detector and without what takes long: under a minute
	@go test -short $$(go list ./... | grep -v -e '/tests$$' -e '/cmd/')

# What runs on every kind of proxy has a subtest of its name.
OPENSIPS_TESTS := TestOpenSIPS|TestFeatureP3.*/OpenSIPS|TestField.*/OpenSIPS|TestInvariant7NothingLeaksThroughSIP/OpenSIPS|TestInvariant8SIPNeverWaits/OpenSIPS|TestLatePhones/OpenSIPS|TestOtherMethods/OpenSIPS|TestPSAPCallback/OpenSIPS

test-opensips: setup ## run the tests with a real OpenSIPS 3.6 or 4.0, which must be on PATH
	@SIPWAKE_REQUIRE_OPENSIPS=1 go test -race -timeout 20m ./opensips/...
	@SIPWAKE_REQUIRE_OPENSIPS=1 go test -race -parallel $(PARALLEL) -timeout 20m -run '$(OPENSIPS_TESTS)' ./tests

features: setup ## run the tests of every feature that was asked for, one line a feature
	@tests/setup/features.sh

lint: setup ## run golangci-lint, the import rules among it; go.mod must be tidy
	@tests/setup/lint.sh $(GOLANGCI_LINT)

fuzz: setup ## run each fuzz target for FUZZTIME (default 30s)
	@tests/setup/fuzz.sh $(or $(FUZZTIME),30s)

bench: build ## measure sipwake under load beside its baselines, and say which budgets it keeps (10 to 20 minutes)
	@bin/sipwake-lab bench --sipwake bin/sipwake

bench-quick: build ## the same with fewer rounds and bindings, in less than two minutes
	@bin/sipwake-lab bench --sipwake bin/sipwake --round 500ms --rounds 3 --bindings 30000

bench-parts: setup ## measure each part by itself, with its allocations
	@go test -run '^$$' -bench . -benchmem ./...

watch: build ## make demo calls until Ctrl-C, and show them in Prometheus and, if it is on PATH, Grafana
	@bin/sipwake-lab watch --sipwake bin/sipwake --proxy $(PROXY) --store $(STORE)

screenshots: build ## take the pictures of docs/pictures, of real calls through a real proxy; needs Chromium
	@tests/setup/chromium.sh
	@bin/sipwake-lab screenshots --sipwake bin/sipwake --proxy $(PROXY) --store $(STORE)

dashboards: setup ## make grafana/dashboards anew
	@go run ./grafana grafana/dashboards

audit: setup ## look for known vulnerabilities in what the program uses, and for modules that are behind
	@tests/setup/audit.sh $(GOVULNCHECK) '$(TAGS)'

licenses: setup ## write down anew the licences of all that is in the program
	@go run ./deploy/licenses -tags '$(TAGS)' >cmd/sipwake/licenses.txt.new
	@mv cmd/sipwake/licenses.txt.new cmd/sipwake/licenses.txt

clean: ## remove what was built; the cache outside the checkout stays
	@rm -rf bin dist
