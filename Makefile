PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
SHAREDIR ?= $(PREFIX)/share
ZSHDIR ?= $(SHAREDIR)/zsh/site-functions
UNITDIR ?= /usr/lib/systemd/system
# systemd applies it to all mounts in /run/glustervol/clients.
MOUNTS_CONF := run-glustervol-clients-.mount.d/glustervol.conf
FUZZTIME ?= 30s
ROUNDS ?= 60
DURATION ?= 1h
SEED ?= 0
BASE ?= HEAD
PLUGIN ?= glustervol
ARCHS ?= amd64 arm64
DIST ?= dist
BINARY ?= bin/glustervol
# Against hangs; a slow machine takes half of it.
TEST_TIMEOUT ?= 60m
GOLANGCI_LINT_VERSION := v2.15.0
# The last one whose modules all come from Go's public proxy.
NFPM_VERSION := v2.45.2

# sudo resets PATH: look for Go where it is usually put, and for the daemons that
# the tests start. Whatever a test runs then finds the same ones.
GO := $(firstword $(shell command -v go 2>/dev/null) $(wildcard /usr/local/go/bin/go /usr/lib/go/bin/go /snap/bin/go))
export PATH := $(if $(GO),$(patsubst %/,%,$(dir $(GO))):)$(PATH):/usr/sbin:/sbin

# git refuses to look at a tree of another owner, which stops Go's own stamping;
# the version comes in by -ldflags anyway.
export GOFLAGS := $(strip $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false)
VERSION ?= $(or $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null),unknown)

TEST = CGO_ENABLED=0 $(GO) test -count=1 -timeout $(TEST_TIMEOUT) $(TESTFLAGS)
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
GOLANGCI_LINT := bin/tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
NFPM := bin/tools/nfpm-$(NFPM_VERSION)
# Scripts tell by their first line, so that those without an extension are found.
SCRIPTS = $(shell find .ci hack -type f -exec awk 'FNR == 1 && /^\043!.*sh( |$$)/ { print FILENAME } { nextfile }' {} +)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: go
go:
	@test -n '$(GO)' || { echo "make: Go is not found: put it on PATH, or run 'make GO=/path/to/go'" >&2; exit 1; }

.PHONY: build
build: docs ## Build bin/glustervol for this machine, and its manual
	$(BUILD) -o bin/glustervol ./cmd/glustervol

# The tag gives the program a command for it, with a formatter that users need not have.
.PHONY: docs
docs: go
	rm -rf bin/docs
	$(GO) run -tags docs -ldflags '-X main.version=$(VERSION)' ./cmd/glustervol docs bin/docs
	gzip -9n bin/docs/man8/*.8
	hack/package/copyright ./cmd/glustervol >bin/docs/copyright

.PHONY: build-all
build-all: bin/glustervol-linux-amd64 bin/glustervol-linux-arm64 ## Build for Linux on amd64 and arm64

.PHONY: bin/glustervol-linux-amd64 bin/glustervol-linux-arm64
bin/glustervol-linux-amd64 bin/glustervol-linux-arm64: bin/glustervol-linux-%: go
	GOOS=linux GOARCH=$* $(BUILD) -o $@ ./cmd/glustervol

.PHONY: install
install: ## Install what 'make build' built, and the systemd units (DESTDIR, PREFIX)
	@test -x '$(BINARY)' && test -d bin/docs || { echo "make install: no $(BINARY) or no bin/docs: run 'make build' first" >&2; exit 1; }
	install -D -m 755 '$(BINARY)' '$(DESTDIR)$(SBINDIR)/glustervol'
	install -D -m 644 hack/systemd/glustervol.socket '$(DESTDIR)$(UNITDIR)/glustervol.socket'
	install -D -m 644 hack/systemd/glustervol-mounts.conf '$(DESTDIR)$(UNITDIR)/$(MOUNTS_CONF)'
	sed 's|/usr/local/sbin/|$(SBINDIR)/|' hack/systemd/glustervol.service >'$(DESTDIR)$(UNITDIR)/glustervol.service'
	chmod 644 '$(DESTDIR)$(UNITDIR)/glustervol.service'
	install -D -m 644 -t '$(DESTDIR)$(SHAREDIR)/man/man8' bin/docs/man8/*
	install -D -m 644 -t '$(DESTDIR)$(SHAREDIR)/bash-completion/completions' bin/docs/bash/*
	install -D -m 644 -t '$(DESTDIR)$(SHAREDIR)/fish/vendor_completions.d' bin/docs/fish/*
	install -D -m 644 -t '$(DESTDIR)$(ZSHDIR)' bin/docs/zsh/*
	install -D -m 644 -t '$(DESTDIR)$(SHAREDIR)/doc/glustervol' README.md CHANGELOG.md bin/docs/copyright
	install -D -m 644 hack/package/logrotate '$(DESTDIR)/etc/logrotate.d/glustervol'
	test -e '$(DESTDIR)/etc/default/glustervol' || \
		install -D -m 644 hack/systemd/glustervol.default '$(DESTDIR)/etc/default/glustervol'
	@test -n '$(DESTDIR)' || echo "Now run: systemctl daemon-reload && glustervol init" \
		"(or, where it is set up already, systemctl restart glustervol.service)"

.PHONY: uninstall
uninstall: ## Remove what 'make install' put there, but not its configuration
	@if test -z '$(DESTDIR)' && test -d /run/systemd/system && test -e '$(UNITDIR)/glustervol.service'; then \
		systemctl disable --now glustervol.socket glustervol.service; \
	fi
	rm -f '$(DESTDIR)$(SBINDIR)/glustervol' '$(DESTDIR)$(UNITDIR)/glustervol.socket' \
		'$(DESTDIR)$(UNITDIR)/glustervol.service' '$(DESTDIR)$(UNITDIR)/$(MOUNTS_CONF)'
	! test -d '$(DESTDIR)$(UNITDIR)/$(dir $(MOUNTS_CONF))' || rmdir --ignore-fail-on-non-empty '$(DESTDIR)$(UNITDIR)/$(dir $(MOUNTS_CONF))'
	rm -f '$(DESTDIR)$(SHAREDIR)/man/man8/glustervol'*.8.gz '$(DESTDIR)$(SHAREDIR)/bash-completion/completions/glustervol' \
		'$(DESTDIR)$(SHAREDIR)/fish/vendor_completions.d/glustervol.fish' '$(DESTDIR)$(ZSHDIR)/_glustervol' \
		'$(DESTDIR)/etc/logrotate.d/glustervol'
	rm -rf '$(DESTDIR)$(SHAREDIR)/doc/glustervol'

.PHONY: deb rpm
deb: ## Build the packages for Debian and Ubuntu, in DIST (ARCHS)
rpm: ## Build the packages for Fedora and its relatives, in DIST (ARCHS)
deb rpm: docs $(ARCHS:%=bin/glustervol-linux-%) $(NFPM)
	hack/package/build $@ '$(VERSION)' '$(NFPM)' '$(DIST)' $(ARCHS)

.PHONY: lint
lint: go $(GOLANGCI_LINT) ## Look for mistakes in code and scripts, and for layers that reach across
	@command -v shellcheck >/dev/null || { echo "make lint: no shellcheck: run 'sudo hack/install-deps.sh test'" >&2; exit 1; }
	$(GO) mod tidy -diff
	$(GOLANGCI_LINT) run
	shellcheck $(SCRIPTS)

.PHONY: fmt
fmt: go $(GOLANGCI_LINT) ## Format the code
	$(GOLANGCI_LINT) fmt

# The name holds the version, so that another version is another file.
$(GOLANGCI_LINT): | go
	GOBIN='$(CURDIR)/bin/tools' $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/tools/golangci-lint $@

$(NFPM): | go
	GOBIN='$(CURDIR)/bin/tools' $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv bin/tools/nfpm $@

.PHONY: test-unit
test-unit: go ## Run the tests that need neither root nor Gluster nor Docker
	$(GO) test -short ./...

.PHONY: test
test: go ## Install what tests need; lint, build, and run all tests (as root)
	@test "$$(id -u)" = 0 || { echo "make test: mounts file systems and runs Gluster and Docker: run 'sudo make test'" >&2; exit 1; }
	hack/install-deps.sh test
	$(MAKE) --no-print-directory build bin/plugin/rootfs
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target $(TEST_PARTS) lint

# These wait as much as they work: three at a time keep two cores busy. The longest come first. The plugin's
# root file system is there before: made beside them, it took 23 minutes, with a third of the places.
TEST_PARTS := test-packages test-driver-o-z test-driver-a-n test-managed test-race test-bench test-stress
.PHONY: $(TEST_PARTS)
test-driver-a-n test-driver-o-z: test-driver-%: go
	$(TEST) -run '^Test[$(shell echo $* | tr a-z A-Z)]' -skip '^TestManaged$$' ./cmd/glustervol

test-managed: go bin/plugin/rootfs
	$(TEST) -run '^TestManaged$$' ./cmd/glustervol

# All but those that have a target of their own.
test-packages: go
	$(TEST) $(filter-out %/cmd/glustervol %/hack/packagetest %/hack/provisiontest,$(shell $(GO) list ./...))

test-race: go
	$(GO) test -race -short -count=1 -timeout $(TEST_TIMEOUT) ./...

test-stress: go
	$(GO) test -race -count=1 -timeout $(TEST_TIMEOUT) -v -run '^TestAPIStress$$' ./gluster

# Whether the benchmarks work, not how fast. 'make bench' would build beside tests that use what is built.
test-bench: go
	$(MAKE) --no-print-directory bench-parts ROUNDS=10
	$(GO) run ./hack/bench -quick

.PHONY: test-provision
test-provision: build $(NFPM) ## Test packages and provisioning on machines with systemd (as root)
	@test "$$(id -u)" = 0 || { echo "make test-provision: starts Docker and machines in it: run 'sudo make test-provision'" >&2; exit 1; }
	hack/install-deps.sh build provision
	hack/with-docker --network $(GO) test -count=1 -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./hack/packagetest ./hack/provisiontest

bin/plugin/rootfs: hack/plugin/Dockerfile hack/plugin/rootfs hack/plugin/collect
	hack/install-deps.sh plugin
	hack/plugin/rootfs

.PHONY: plugin
plugin: build bin/plugin/rootfs ## Create the managed plugin PLUGIN (glustervol) in this machine's Docker (as root)
	hack/plugin/create '$(PLUGIN)' bin/glustervol

.PHONY: soak
soak: go ## Load three nodes and kill their drivers for DURATION (1h), with SEED's choices; then look for what is lost (as root)
	CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./hack/clustertest -soak.time='$(DURATION)' -soak.seed='$(SEED)'

.PHONY: bench
bench: build ## Measure what users pay, beside what the same costs by hand; BENCH=quick for a trial (as root)
	hack/install-deps.sh runtime cluster bench
	$(GO) run ./hack/bench $(if $(filter quick,$(BENCH)),-quick)

.PHONY: bench-compare
bench-compare: go ## Compare what the driver's own parts cost with commit BASE (HEAD)
	hack/bench-compare '$(BASE)'

.PHONY: bench-parts
bench-parts: go ## Measure both control planes side by side, ROUNDS (60) times (as root)
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchtime 1x -timeout $(TEST_TIMEOUT) ./cmd/glustervol -rounds='$(ROUNDS)'

.PHONY: fuzz
fuzz: go ## Run each fuzz test for FUZZTIME (30s)
	@set -e; grep -rEo --include='*_test.go' '^func Fuzz\w+' . | sed 's|/[^/]*:func | |' | while read -r dir name; do \
		echo "== $$name in $$dir"; \
		$(GO) test -short -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(FUZZTIME)' "$$dir"; \
	done

.PHONY: demo
demo: build ## Show it: a small Gluster and Docker cluster on this machine (as root)
	hack/demo.sh up

.PHONY: demo-clean
demo-clean: ## Take away all that 'make demo' made
	hack/demo.sh clean

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist coverage*
