# Thin names for the commands people type; make prints each command it runs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

# Settings: make deploy INVENTORY=inventory/production HOST=web1 ARGS='--check --diff'
INVENTORY ?= inventory/local
HOST ?=
ARGS ?=
ROTATE ?=
ID ?=
PYTHON ?= python3

limit = $(if $(HOST),--limit $(HOST) )$(ARGS)
# Where playbooks/secrets.yml puts a vault's password.
VAULT_PASSWORD = $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/ansible-vault/$(notdir $(INVENTORY))
PLAYBOOK = .venv/bin/ansible-playbook -i $(INVENTORY)$(patsubst %, --vault-password-file %,$(wildcard $(VAULT_PASSWORD)))
TARGET_HOST = PYTHONPATH=tests $(PYTHON) -m target_host
HOSTS = --inventory $(INVENTORY) $(if $(HOST),--host $(HOST))
CONTROLLER_LOCKS = requirements/controller.txt
DEV_LOCKS = $(CONTROLLER_LOCKS) requirements/dev.txt
APP_LOCKS = $(wildcard app_skeleton/inbox/requirements*.txt)
APP_VENV = .cache/app-venv
# In processes of their own: what drives the browser has an event loop in each.
BROWSER_TESTS = app_skeleton/inbox/tests/browser
# Files of tests side by side: the slow ones wait for processes more than they compute.
TWO_AT_ONCE = -n 2 --dist loadfile
APP_SOURCES = $(wildcard app_skeleton/*/src)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  settings: INVENTORY=$(INVENTORY)  HOST=<one host>  ARGS='<more words for ansible-playbook>'"

##
.PHONY: up down hosts ssh logs
up: venv ## Make local hosts, put everything on them, deploy the sample app
	@$(TARGET_HOST) up $(HOSTS)
	$(PLAYBOOK) playbooks/site.yml $(limit)
	@$(TARGET_HOST) summary --inventory $(INVENTORY)

down: ## Remove the local hosts with their data, keys and secrets
	@$(TARGET_HOST) down $(HOSTS)

hosts: venv ## List the local hosts and their containers
	@$(TARGET_HOST) status $(HOSTS)

ssh: venv ## Log in on a local host (HOST=)
	@$(TARGET_HOST) ssh $(HOSTS)

logs: venv ## Follow the app's log on a local host (HOST=)
	@$(TARGET_HOST) logs $(HOSTS)

.PHONY: secrets deploy rollback status trace visits verify audit vulnerabilities
secrets: venv ## Make the secrets that INVENTORY asks for, in a vault (ROTATE=<a name> makes one anew)
	$(PLAYBOOK) playbooks/secrets.yml $(if $(ROTATE),-e secrets_rotate=$(ROTATE) )$(ARGS)

deploy: venv ## Build a release and send traffic to it
	$(PLAYBOOK) playbooks/deploy.yml $(limit)

rollback: venv ## Send traffic to the previous release
	$(PLAYBOOK) playbooks/rollback.yml $(limit)

status: venv ## Say which release each host serves
	$(PLAYBOOK) playbooks/status.yml $(limit)

trace: venv ## Follow one request over all hosts (ID=<X-Request-ID of its answer>)
	$(PLAYBOOK) playbooks/trace.yml -e logs_request_id='$(ID)' $(limit)

visits: venv ## Report who asks the site for what (ARGS='-e visits_days=1'); a page a host in .local/
	$(PLAYBOOK) playbooks/visits.yml $(limit)

verify: venv ## Check every host against what it should be, changing nothing
	$(PLAYBOOK) playbooks/verify.yml $(limit)

audit: venv ## Measure every host's security, changing nothing; reports in .local/
	$(PLAYBOOK) playbooks/audit.yml $(limit)

vulnerabilities: venv ## Compare the active releases with the index's advisories
	$(PLAYBOOK) playbooks/vulnerabilities.yml $(limit)

.PHONY: lint test-needs test-fast test test-full
lint: venv-dev ## Check style: Ansible, YAML, Python, shell
	.venv/bin/ansible-lint --offline --profile production
	.venv/bin/yamllint --strict .
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/shellcheck .ci/run $(shell find . -name '*.sh' -not -path './.*/*')

test-fast: test-needs lint ## Lint, and every test that needs no host
	@$(TARGET_HOST) venv --path $(APP_VENV) $(APP_SOURCES:%=--source %) $(APP_LOCKS)
	.venv/bin/pytest $(TWO_AT_ONCE) tests/static tests/unit tests/render
	$(APP_VENV)/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder app_skeleton --ignore $(BROWSER_TESTS)
	$(APP_VENV)/bin/python -m pytest -n 2 --dist loadfile $(BROWSER_TESTS)
	.venv/bin/pytest tests/bench

# Before all else: tests/render gives what it rendered to nginx and systemd in containers.
test-needs:
	@$(TARGET_HOST) prepare-app
	@$(TARGET_HOST) prepare

test: test-fast ## All tests, with hosts of their own
	.venv/bin/pytest -n 2 --dist loadgroup tests/target tests/scenario

test-full: test-fast ## All tests, the long ones too, on Debian 12 and 13
	.venv/bin/pytest --long -m long tests/render
	RELEASES="12 13" .venv/bin/pytest -n 2 --dist loadgroup --long tests/target tests/scenario

.PHONY: bench bench-edge bench-throughput bench-tune bench-deploy bench-monitoring
bench: venv ## Measure what flask_ops costs a request (ARGS=--quick for a look)
	@$(TARGET_HOST) venv --path $(APP_VENV) $(APP_SOURCES:%=--source %) $(APP_LOCKS)
	PYTHONPATH=tests .venv/bin/python -m bench.observability $(ARGS)

bench-edge: venv ## Measure what nginx, TLS and headers cost a request (ARGS=--quick for a look)
	@$(TARGET_HOST) venv --path $(APP_VENV) $(APP_SOURCES:%=--source %) $(APP_LOCKS)
	PYTHONPATH=tests .venv/bin/python -m bench.edge $(ARGS)

bench-throughput: venv ## Measure requests a second beside other deployments (ARGS=--quick for a look)
	@$(TARGET_HOST) venv --path $(APP_VENV) $(APP_SOURCES:%=--source %) $(APP_LOCKS)
	PYTHONPATH=tests .venv/bin/python -m bench.throughput $(ARGS)

bench-tune: venv ## Find the best worker class and number for an app (ARGS='--app shop:app --python …')
	PYTHONPATH=tests .venv/bin/python -m bench.tune $(ARGS)

bench-deploy: venv-dev ## Measure deploys beside a play in Ansistrano's steps (ARGS=--quick for a look)
	@$(TARGET_HOST) prepare
	PYTHONPATH=tests .venv/bin/python -m bench.deploy $(ARGS)

bench-monitoring: venv ## Measure what watching costs the host of `make up`
	PYTHONPATH=tests .venv/bin/python -m bench.monitoring --inventory $(INVENTORY) $(if $(HOST),--host $(HOST) )$(ARGS)

.PHONY: venv venv-dev lock dashboards clean
venv: ## Make .venv for the controller (part of every command above)
	@$(TARGET_HOST) venv $(CONTROLLER_LOCKS)

venv-dev:
	@$(TARGET_HOST) venv $(DEV_LOCKS)

lock: venv ## Resolve requirements/*.in anew (ARGS=--upgrade takes newer versions)
	for name in uv build controller dev scanners observatory peers; do \
	  UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile --quiet --no-config --universal \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links $(ARGS) \
	    --output-file requirements/$$name.txt requirements/$$name.in || exit; \
	done

dashboards: venv-dev ## Write the dashboards for Grafana anew
	PYTHONPATH=grafana .venv/bin/python -m drawing

clean: ## Remove what `make down` keeps: images, .cache, .venv
	@$(TARGET_HOST) clean
