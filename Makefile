# Fenrir's commands. `make help` lists them. Each works from a clean clone on
# Debian 12, as root or with sudo, with or without a terminal.

SHELL := /bin/sh
GO := scripts/with-go go
CONFIG ?=
FUZZTIME ?= 30s
BENCH_JSON ?= bench.json
BENCH_MARKDOWN ?= bench.md
SOAK_JSON ?= soak.json
MINUTES ?= 30
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The commit is stamped into the binary, unless git refuses to read the clone
# (one that belongs to another user, or an unpacked archive).
BUILDFLAGS := -buildvcs=$(shell git status --porcelain >/dev/null 2>&1 && echo auto || echo false)

# media/pipeline runs alone, because it measures rates, and as a whole without the
# race detector, which makes software encoders several times slower. These of its
# tests need no speed and run with it, too.
UNHURRIED := ToneArrives|SoundAfterRest|HeartGoesOn|SoundServerComesLateAndDies|StoppedWorkerIsFoundSilent|DisplayChangesItsSize|CountersOnlyRise|DisplayLost|NoSuchEncoder

# NVIDIA marks functions of its header as deprecated, 130 lines of it.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

export FENRIR_PLAYWRIGHT ?= $(CURDIR)/.cache/playwright
export FENRIR_WHEP ?= $(CURDIR)/.cache/whip-whep/package

.NOTPARALLEL:

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: install build ## install what is missing, build, serve; CONFIG=file.toml uses that configuration
	@if [ -n "$(CONFIG)" ]; then \
		exec bin/fenrir serve -config "$(CONFIG)"; \
	else \
		FENRIR_STATE_DIR="$${FENRIR_STATE_DIR:-$(CURDIR)/.fenrir}" exec bin/fenrir serve; \
	fi

.PHONY: install
install: ## install what building and running need and is missing
	@scripts/install-run.sh

.PHONY: build
build: ## build bin/fenrir
	$(GO) build $(BUILDFLAGS) -o bin/fenrir ./server

.PHONY: web
web: install-test ## check the page's types and bundle it anew into web/dist
	cd web && npm run --silent check
	$(GO) run ./web/build

.PHONY: check
check: ## what can be said without C in under a minute: formatting, vet, staticcheck, unit tests
	@scripts/get-go.sh
	scripts/check-format.sh
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) run $(STATICCHECK) ./...
	CGO_ENABLED=0 $(GO) test -short -timeout 50s ./...

.PHONY: lint
lint: ## formatting, vet and staticcheck of everything, e2e included
	@scripts/install-run.sh
	scripts/check-format.sh
	$(GO) vet ./...
	$(GO) vet -tags e2e,bench ./e2e
	$(GO) vet -tags faults ./server ./media/fault ./media/pipeline
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(STATICCHECK) -tags e2e,bench ./e2e

.PHONY: install-test
install-test: ## install what the tests need and is missing
	@scripts/install-test.sh

.PHONY: test
test: install-test lint build test-unit test-web test-e2e ## everything: lint, unit, race, integration, page, e2e

.PHONY: test-unit
test-unit: ## unit and integration tests with the race detector
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v -e /e2e -e media/pipeline$$)
	scripts/test-once-more.sh ./media/pipeline -timeout 20m
	$(GO) test -race -timeout 20m -run '$(UNHURRIED)' ./media/pipeline

.PHONY: test-web
test-web: ## types and tests of the page
	cd web && npm run --silent check
	cd web && ../scripts/with-go npm test --silent

.PHONY: test-e2e
test-e2e: ## the built binary in a real browser
	$(GO) build -tags faults -o bin/fenrir-faults ./server
	FENRIR_FAULTS_BIN=$(CURDIR)/bin/fenrir-faults FENRIR_BIN=$(CURDIR)/bin/fenrir scripts/test-once-more.sh ./e2e -tags e2e -count=1 -timeout 40m

.PHONY: chaos
chaos: install-test build ## what clients, networks and native code can do to us, in full (docs/reliability.md)
	$(GO) build -tags faults -o bin/fenrir-faults ./server
	CHAOS=full FENRIR_BIN=$(CURDIR)/bin/fenrir FENRIR_FAULTS_BIN=$(CURDIR)/bin/fenrir-faults $(GO) test -tags e2e -count=1 -timeout 40m -run '^TestRow' ./e2e

.PHONY: net
net: install-test build ## measure pictures over lossy, slow and changing paths; NET="80 ms;40 →" takes those cells only
	FENRIR_BIN=$(CURDIR)/bin/fenrir FENRIR_NET="$(or $(NET),all)" FENRIR_NET_JSON=$(CURDIR)/bin/net.json $(GO) test -tags e2e -count=1 -timeout 20m -v -run TestNetworkGrid ./e2e

.PHONY: bench
bench: install-test build ## latency, CPU and memory into bench.json and bench.md, 5 min; BENCH=start,viewers or BENCH_SHORT=1 for less
	@FENRIR_BIN=$(CURDIR)/bin/fenrir BENCH_JSON=$(abspath $(BENCH_JSON)) BENCH_MARKDOWN=$(abspath $(BENCH_MARKDOWN)) BENCH=$(BENCH) BENCH_SHORT=$(BENCH_SHORT) \
		$(GO) test -tags e2e,bench -count=1 -timeout 15m -v -run 'TestBench$$' ./e2e

.PHONY: soak
soak: install-test build ## MINUTES (30) of churn against one server, which must not grow; soak.json
	@FENRIR_BIN=$(CURDIR)/bin/fenrir SOAK_MINUTES=$(MINUTES) SOAK_JSON=$(abspath $(SOAK_JSON)) \
		$(GO) test -tags e2e,bench -count=1 -timeout $$(awk 'BEGIN { print int($(MINUTES) + 10) }')m -v -run 'TestSoak$$' ./e2e

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: docker
docker: ## build the container image fenrir
	docker build -t fenrir .

.PHONY: clean
clean: ## remove what was built and fetched; state in .fenrir stays
	rm -rf bin web/node_modules
	chmod -R u+w .cache 2>/dev/null || true
	rm -rf .cache web/.cache
