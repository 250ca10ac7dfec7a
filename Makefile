# Two commands need nothing but Python 3.10 or newer, make and git: `make demo` and `make test`.
# PYTHON=/path/to/python3 names the Python to take; ARGS='...' is passed on to the command.

BIN := .venv/bin
ARGS ?=
export PYTHON

# The folders that hold Python by now.
CODE := $(foreach folder,bitstore ray_integration epic tests examples benchmarks,$(if $(shell find $(folder) -name '*.py' 2>/dev/null),$(folder))) hatch_build.py
# What is tested over the other transports as well, where the native one was built.
TRANSPORTS := $(patsubst %,tests/test_%.py,batch bounds certificates hostile http1 large_blobs never_stuck own_connections parts time_limits transfer window)

.DEFAULT_GOAL := help
.PHONY: help changelog demo docs docs-links test soak sanitize mutants wheel-test matrix lint format lock bench bench-quick install-demo install-test

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 14

install-demo:
	@sh requirements/install.sh demo

install-test:
	@sh requirements/install.sh test

demo: install-demo ## Fetch thousands of blobs by hash, here and on a local Ray
	@$(BIN)/bitstore demo $(ARGS)

test: install-test ## Run the tests against real servers on this machine
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)
	@$(if $(ARGS),:,if $(BIN)/bitstore --version | grep -q 'native transport: used'; then \
		echo "the tests of transports without the native one"; \
		BITSTORE_NATIVE=0 $(BIN)/python -m pytest -n 3 --dist loadfile $(TRANSPORTS); fi)

bench: install-test ## Measure all that is claimed about speed, against others (needs nginx; an hour or more)
	@$(BIN)/python benchmarks/run.py --output benchmarks/results $(ARGS)

bench-quick: install-test ## The most important measurement, in about a minute (needs nginx)
	@$(BIN)/python benchmarks/run.py --quick headline $(ARGS)

docs docs-links: install-test
	@test -x build/docs-venv/bin/python || $(BIN)/python -m venv build/docs-venv
	@build/docs-venv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/docs.txt
	@build/docs-venv/bin/python -m sphinx -W --keep-going -q -b $(if $(filter docs,$@),html,linkcheck) docs build/$@

changelog: install-test ## Show what the files of changelog.d come to (ARGS='--yes --version 2.1.0': write it into CHANGELOG.md)
	@test -x build/release-venv/bin/python || $(BIN)/python -m venv build/release-venv
	@build/release-venv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/release.txt
	@build/release-venv/bin/towncrier build $(or $(ARGS),--draft --version next)

docs: ## Build the pages into build/docs; warnings are errors
docs-links: ## Check the links of the pages to the outside (needs the network)

soak: export BITSTORE_SOAK_REPORT := $(CURDIR)/build/soak.jsonl
soak: install-test ## Run the long tests (two hours or more), and write their figures into docs/promises.md
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/fuzz.txt \
		|| echo "no atheris for this Python: the parsers are fuzzed without its guidance"
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/metrics.txt
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/torch.txt \
		|| echo "no PyTorch for CPUs here: the tests of training with it are skipped"
	@mkdir -p build && rm -f $(BITSTORE_SOAK_REPORT)
	@$(BIN)/python -m pytest -m soak $(ARGS)
	@$(BIN)/python -m pytest tests/test_models.py tests/test_model_processes.py --hypothesis-profile=soak --timeout 3600 $(ARGS)
	@$(if $(ARGS),:,$(BIN)/python -m tests.native.sanitize --where-possible --seconds 3600)
	@$(BIN)/python -m tests.soak_table

sanitize: install-test ## Prove the native transport's C code by a fuzzer and sanitizers (needs clang and gcc; ARGS='--seconds 3600')
	@$(BIN)/python -m tests.native.sanitize $(ARGS)

mutants: install-test ## Change the core line by line and list in docs/mutants.md what no test notices (half an hour)
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/mutants.txt
	@rm -rf mutants && $(BIN)/python -m mutmut run --max-children 2 $(ARGS)
	@$(BIN)/python -m tests.mutants

wheel-test: install-test ## Build wheel and sdist and try them in clean environments (ARGS=--lowest: at the lowest versions)
	@$(BIN)/python -m tests.installed $(ARGS)

matrix: install-test ## Run the tests on each Python of this machine and those of Ray on old and new Rays; writes docs/matrix.md (ARGS=--ray: only these)
	@$(BIN)/python -m tests.installed.matrix $(ARGS)

lint: install-test ## Check style and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/lint-imports

format: install-test ## Format the code
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lock: ## Write the locks again (ARGS=--upgrade: with the newest releases)
	sh requirements/lock.sh $(ARGS)
