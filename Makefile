# Everything runs on a fresh machine with what CONTRIBUTING.md lists and the package
# registries: what a target needs besides, it fetches into .cache, bin or the user's
# cache folder.

SHELL := /bin/bash
GOFLAGS ?= -p=2
export GOFLAGS

# Versions of tools. The Go modules are pinned by go.mod, Envoy by the code.
GOLANGCI_VERSION := v2.15.0
GOLANGCI := bin/golangci-lint-$(GOLANGCI_VERSION)
LINTERS := $(CURDIR)/.cache/linters

.DEFAULT_GOAL := help
.PHONY: build images test pairs tools lint golden envoy objects spire jaeger imports bench demo demo-k8s clean help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | while IFS=$$'\t' read -r name what; do printf '  %-9s %s\n' "$$name" "$$what"; done

build: ## build meshc and meshc-agent into bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/ ./cmd/...

images: ## build the container images as OCI layouts in bin/images (Debian; IMAGES='-all -push registry/prefix')
	go run ./ci/images/build $(IMAGES)

test: tools ## run all tests with the race detector (real Envoys, real git, real Kubernetes)
	@failed=0; $(MAKE) --no-print-directory pairs || failed=1; \
	go test -race -timeout 40m ./compiler -run '$(RACED)' -drawn-pairs 2 || failed=1; \
	go test -race -timeout 40m $(TESTFLAGS) $$(go list ./... | grep -vxF "$$(tr ' ' '\n' <<<'$(RACELESS)')") || failed=1; exit $$failed

# Packages whose tests take ten times as long under the race detector and show it nothing that
# others do not: they compile or draw hundreds of small meshes. Of the compiler, which does so side
# by side and from memory, it sees the tests that have both.
RACELESS := meshc.dev/meshc/schemas/reference meshc.dev/meshc/internal/importer meshc.dev/meshc/compiler/draw meshc.dev/meshc/compiler
RACED := ^Test(WholePipeline|IncrementalIsFull|Plans(OfAllWords)?AreTrue)$$

# `go test` by itself draws a few; more of them show no other race.
PAIRS ?= 100
# What they compute is thrown away again at once: a third of the time is the collector's, at its usual pace.
pairs: export GOGC := 400
pairs: ## what the race detector is too slow or too coarse for: tests of the compiler, drawn meshes, and pairs of them, against a real Envoy and a second reading, what a load allocates (PAIRS=1000 SEED=40000)
	@failed=0; \
	go test -timeout 20m ./compiler/draw -meshes 120 || failed=1; \
	go test ./compiler/internal/intent -run '^TestMallocsOfALoad$$' || failed=1; \
	go test -timeout 20m $(filter-out %/compiler/draw %/compiler,$(RACELESS)) || failed=1; \
	go test -timeout 20m ./ci/envoy -run '^TestEvaluatorAndEnvoyAgree$$' -seed 20 -meshes 34 || failed=1; \
	set -o pipefail; go test ./compiler -v -timeout 60m -pairs $(PAIRS) -drawn-pairs $(PAIRS) -drawn-seed $(or $(SEED),0) | sed -E '/^ *(=== |--- PASS)/d' || failed=1; \
	exit $$failed

tools: ## build the Kubernetes control plane and Flux, which tests start; minutes, once per machine and version
	GOFLAGS= go run ./ci/tools/build >/dev/null

lint: $(GOLANGCI) $(LINTERS)/done ## run the linters
	git ls-files -z -- . ':!:*testdata/*' ':!:examples/*/release*' ':!:*.svg' ':!:*go.sum' ':!:ci/templates/requirements.txt' ':!:docs/intent.md' ':!:schemas/reference/seen.json' | PYTHONPATH=$(LINTERS) xargs -0 python3 -m codespell_lib
	$(GOLANGCI) config verify
	$(GOLANGCI) run ./...
	cd ci/templates/scripts && $(LINTERS)/bin/shellcheck --external-sources *.sh
	PYTHONPATH=$(LINTERS) python3 -m check_jsonschema --builtin-schema vendor.github-workflows ci/templates/github/*.yaml
	PYTHONPATH=$(LINTERS) python3 -m check_jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci ci/templates/gitlab/*.yaml

OF ?= ./...
golden: ## rewrite the expected files of all tests (OF='./compiler/... ./schemas' for some); review the diff
	go test $$(go list -f '{{$$p := .ImportPath}}{{range .TestImports}}{{if eq . "meshc.dev/meshc/internal/golden"}}{{$$p}} {{end}}{{end}}{{range .XTestImports}}{{if eq . "meshc.dev/meshc/internal/golden"}}{{$$p}} {{end}}{{end}}' $(OF) | tr ' ' '\n' | sort -u) -update

envoy: ## put the compiled configuration and the evaluator to the test on a real Envoy, with meshes never seen before
	go test -count=1 -timeout 20m ./ci/envoy -seed=0 -meshes=60

objects: ## hold compiled Gateway API objects against the official definitions
	cd ci/gatewayapi && go test ./...

spire: build ## try identities of a real SPIRE, built from its modules: minutes, once (gcc)
	go run ./ci/spire -bin bin

jaeger: ## have a real Jaeger, built from its module, show traces: minutes, once
	GOFLAGS= go run ./ci/tools/build jaeger >/dev/null
	go test -tags jaeger ./ci/envoy -run '^TestAJaegerShowsTraces$$'

imports: ## have Envoy Gateway's translator and Istio's control plane, built from their modules, say again what imports are held against: minutes, once
	GOFLAGS= go run ./ci/tools/build envoygateway istio >/dev/null
	go test -timeout 20m ./ci/imports -translate

bench: ## measure compile, ends, plan, looks at Git, fan-out, swaps, agent, attacks, a cluster and admission, peers in the same run
	cd ci/bench && go run .

demo: build ## the whole idea with real parts, in a minute or two
	bin/meshc demo

demo-k8s: build tools ## the same on Kubernetes: a real API server, Flux, injected pods, the admission guard (Linux, root)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/demo-k8s ./ci/demo
	bin/demo-k8s

clean: ## remove what the targets made
	rm -rf bin .cache

$(GOLANGCI):
	@mkdir -p bin
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/golangci-lint $@

# Into a folder, because not every Python can make virtual environments.
$(LINTERS)/done: ci/templates/requirements.txt
	@rm -rf $(LINTERS)
	python3 -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: --require-hashes --target $(LINTERS) -r $<
	@touch $@
