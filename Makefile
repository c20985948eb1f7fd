# Entry points. "make run" and "make test" set up what they need, on Debian as root completely.

VENV := .venv
PYTHON := $(VENV)/bin/python
RESULTS := .cache/test

# What the tests use of Debian; without it they skip.
PACKAGES := curl procps iproute2 iptables xfsprogs e2fsprogs busybox-static strace util-linux crun runc bubblewrap \
            qemu-system-x86 cpio kmod systemd openssl containernetworking-plugins docker-registry skopeo umoci apache2-utils \
            zookeeper docker.io podman nodejs chromium

# What "make run" runs, unless CMD='…' is given.
define CMD
echo "host name   $(hostname)"
echo "identity    $(id)"
echo "cgroup      $(tr '\n' ' ' < /proc/self/cgroup)"
own() { sed -n "s/^[0-9]*:$1://p" /proc/self/cgroup; }
echo "tasks       $(cd /sys/fs/cgroup && cat "pids$(own pids)/pids.max" 2>/dev/null || cat "/sys/fs/cgroup$(own)/../pids.max" 2>/dev/null) at most"
echo "interfaces  $(sed -n 's/^ *\(.*\):.*/\1/p' /proc/net/dev | tr '\n' ' ')"
echo "namespaces  $(readlink /proc/self/ns/* | tr '\n' ' ')"
echo "mounts      $(wc -l < /proc/self/mounts), of which the last:"
tail -n 5 /proc/self/mounts
echo "processes"
ps -A 2>/dev/null ||
  for process in /proc/[0-9]*; do echo "${process#/proc/} $(tr '\0' ' ' < "$process/cmdline")"; done
endef
# The text as it stands, with no expansion of its dollar signs by make, in the environment of the recipes.
override CMD := $(value CMD)
export CMD

# Hundreds of tests start Python: they shall find it compiled, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

# Each step runs under this, for so many seconds at most. In "make test", where all of them run, one that fails does not
# end the others: what failed is in the results that the last line sums up.
LIMIT := 600
LIMIT_test-kernel := 2700
LIMIT_test-vm := 2400
LIMIT_test-systemd := 900
STEP = @$(if $(ALL),-)$(PYTHON) -m tests.setup.step --limit $(or $(LIMIT_$@),$(LIMIT)) $(RESULTS)/$@.xml
JUNIT = --junit-xml=$(RESULTS)/$@.xml
# A test that fails is run once more, and named in the end if it passes then: a race is no reason to lose all the rest.
AGAIN := --reruns=1 --max-suite-reruns=20

# Two chains, which "make test" runs side by side: on this machine, and in the virtual one, which changes nothing here.
# So the tests of this kernel can look at all that changes on the machine.
HOST := lint-rules lint-format lint-types lint-tools test-unit test-kernel
GUEST := test-vm test-systemd
in-order = $(if $(word 2,$1),$(eval $(word 2,$1): | $(word 1,$1))$(call in-order,$(wordlist 2,$(words $1),$1)))
$(if $(ALL),$(call in-order,$(HOST))$(call in-order,$(GUEST)))
# A step prints what it has to say when it ends. GNU make 3.81, that of macOS, cannot do that.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

.PHONY: help run test packages lint benchmark clean $(HOST) $(GUEST)

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F '|' '{ printf "%-18s %s\n", $$1, $$2 }'

run: $(VENV)/installed ## Run a command in a container, CMD='…' or one that shows its isolation
	@$(VENV)/bin/mesocosm run -- sh -c "$$CMD"

test: $(VENV)/installed-dev packages ## Run all checks and tests, on this kernel and on Debian's own
	@rm -rf $(RESULTS)
	@$(MAKE) --no-print-directory --jobs=2 $(SYNC) --old-file=packages ALL=1 $(GUEST) $(HOST)
	@$(PYTHON) -m tests.setup.summary $(RESULTS) $(HOST) $(GUEST)

test-unit: $(VENV)/installed-dev ## Run the tests that need no privilege
	$(STEP) $(PYTHON) -m pytest -m 'not kernel' $(AGAIN) $(JUNIT)

test-kernel: $(VENV)/installed-dev packages ## Run the tests of real containers, as root on Linux
ifeq ($(shell uname -s) $(shell id -u),Linux 0)
	$(STEP) $(PYTHON) -m pytest -m kernel $(AGAIN) $(JUNIT)
else
	$(STEP) sh -c 'echo "test-kernel: skipped: needs root on Linux"; exit 77'
endif

test-vm: $(VENV)/installed-dev packages ## Run those that depend on the kernel on Debian's, in a virtual machine
	$(STEP) $(PYTHON) -m tests.vm $(AGAIN) $(JUNIT)

test-systemd: $(VENV)/installed-dev packages ## Run those of the agent as a service of systemd, in the same machine
	$(STEP) $(PYTHON) -m tests.vm --systemd --timeout 840 $(AGAIN) $(JUNIT)

lint: lint-rules lint-format lint-types lint-tools ## Check style, format and types

lint-rules: $(VENV)/installed-dev
	$(STEP) $(VENV)/bin/ruff check --quiet

lint-format: $(VENV)/installed-dev
	$(STEP) $(VENV)/bin/ruff format --check --quiet

lint-types: $(VENV)/installed-dev
	$(STEP) $(VENV)/bin/mypy --no-error-summary

lint-tools: $(VENV)/installed-dev
	$(STEP) $(VENV)/bin/mypy --no-error-summary -p tests.setup -p tests.vm

benchmark: $(VENV)/installed-dev packages ## Measure against other container runtimes
	@$(PYTHON) -m compileall -q src
	@status=0; for name in launch throughput memory agent pull images tasks; do PYTHONPATH=. $(PYTHON) benchmarks/$$name.py || status=1; done; exit $$status

packages:
	@tests/setup/apt.sh $(PACKAGES)

# The stamps of what was installed last.
$(VENV)/installed: pyproject.toml tests/setup/venv.sh packaging/page/package-lock.json
	@tests/setup/venv.sh
	@touch $@

$(VENV)/installed-dev: pyproject.toml tests/setup/venv.sh packaging/page/package-lock.json
	@tests/setup/venv.sh dev
	@touch $(VENV)/installed $@

clean: ## Remove what make, the tests and the tools have made
	@rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	@find . -name __pycache__ -prune -exec rm -rf {} +
