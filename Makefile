PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
UNITDIR ?= /usr/lib/systemd/system
# systemd applies it to all mounts in /run/glustervol/clients.
MOUNTS_CONF := run-glustervol-clients-.mount.d/glustervol.conf
FUZZTIME ?= 30s
ROUNDS ?= 60
DURATION ?= 1h
SEED ?= 0
PLUGIN ?= glustervol
TEST_TIMEOUT ?= 30m
GOLANGCI_LINT_VERSION := v2.15.0

# sudo resets PATH: look for Go where it is usually put, and for the daemons that
# the tests start. Whatever a test runs then finds the same ones.
GO := $(firstword $(shell command -v go 2>/dev/null) $(wildcard /usr/local/go/bin/go /usr/lib/go/bin/go /snap/bin/go))
export PATH := $(if $(GO),$(patsubst %/,%,$(dir $(GO))):)$(PATH):/usr/sbin:/sbin

# git refuses to look at a tree of another owner, which stops Go's own stamping;
# the version comes in by -ldflags anyway.
export GOFLAGS := $(strip $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false)
VERSION ?= $(or $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null),unknown)

BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
GOLANGCI_LINT := bin/tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
# Scripts tell by their first line, so that those without an extension are found.
SCRIPTS = $(shell find .ci hack -type f -exec awk 'FNR == 1 && /^\043!.*sh( |$$)/ { print FILENAME } { nextfile }' {} +)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: go
go:
	@test -n '$(GO)' || { echo "make: Go is not found: put it on PATH, or run 'make GO=/path/to/go'" >&2; exit 1; }

.PHONY: build
build: go ## Build bin/glustervol for this machine
	$(BUILD) -o bin/glustervol ./cmd/glustervol

.PHONY: build-all
build-all: bin/glustervol-linux-amd64 bin/glustervol-linux-arm64 ## Build for Linux on amd64 and arm64

.PHONY: bin/glustervol-linux-amd64 bin/glustervol-linux-arm64
bin/glustervol-linux-amd64 bin/glustervol-linux-arm64: bin/glustervol-linux-%: go
	GOOS=linux GOARCH=$* $(BUILD) -o $@ ./cmd/glustervol

.PHONY: install
install: ## Install what 'make build' built, and the systemd units (DESTDIR, PREFIX)
	@test -x bin/glustervol || { echo "make install: no bin/glustervol: run 'make build' first" >&2; exit 1; }
	install -D -m 755 bin/glustervol '$(DESTDIR)$(SBINDIR)/glustervol'
	install -D -m 644 hack/systemd/glustervol.socket '$(DESTDIR)$(UNITDIR)/glustervol.socket'
	install -D -m 644 hack/systemd/glustervol-mounts.conf '$(DESTDIR)$(UNITDIR)/$(MOUNTS_CONF)'
	sed 's|/usr/local/sbin/|$(SBINDIR)/|' hack/systemd/glustervol.service >'$(DESTDIR)$(UNITDIR)/glustervol.service'
	chmod 644 '$(DESTDIR)$(UNITDIR)/glustervol.service'
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

.PHONY: test-unit
test-unit: go ## Run the tests that need neither root nor Gluster nor Docker
	$(GO) test -short ./...

.PHONY: test
test: go ## Install what tests need; lint, build, and run all tests (as root)
	@test "$$(id -u)" = 0 || { echo "make test: mounts file systems and runs Gluster and Docker: run 'sudo make test'" >&2; exit 1; }
	hack/install-deps.sh test
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint build bin/plugin/rootfs
	$(GO) test -race -short -count=1 ./...
	CGO_ENABLED=0 $(GO) test -count=1 -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./...
	$(GO) test -race -count=1 -v -run '^TestAPIStress$$' ./gluster
	CGO_ENABLED=0 $(GO) test -count=1 -v -run '^TestAPI(Stress|Replacements)$$' ./gluster
	$(MAKE) --no-print-directory bench ROUNDS=10

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
bench: go ## Measure both control planes side by side, ROUNDS (60) times (as root)
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchtime 1x ./cmd/glustervol -rounds='$(ROUNDS)'

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
