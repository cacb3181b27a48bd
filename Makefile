# The short front of the build; CMakeLists.txt and CMakePresets.json are the build.
MAKEFLAGS += --no-print-directory
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local

.PHONY: all release install run test asan tsan clang fuzz coverage format clean install-packages

all: release

release:  ## build/release/ruvllm
	@tools/packages.sh run
	@cmake --preset release >/dev/null
	@ninja -C build/release -j$(JOBS) --quiet

install: release  ## program, models, manual page and completions under $(DESTDIR)$(PREFIX)
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)"

run:  ## from nothing to answers drawn from memory
	@$(MAKE) release
	@tools/first-run.sh

test:  ## every test; the last line counts them
	@tools/packages.sh test
	@JOBS=$(JOBS) tools/run-tests

asan:  ## the C tests and fuzz corpora under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/packages.sh test
	@JOBS=$(JOBS) PRESET=asan tools/run-tests c replay

tsan:  ## the C tests under ThreadSanitizer
	@tools/packages.sh test
	@JOBS=$(JOBS) PRESET=tsan TEST_SECONDS=$${TEST_SECONDS:-3600} tools/run-tests c

clang:  ## everything built with clang, warnings as errors
	@tools/packages.sh dev
	@cmake --preset clang >/dev/null
	@ninja -C build/clang -j$(JOBS) all tests replays benches

fuzz:  ## every fuzz target for FUZZ_SECONDS
	@tools/packages.sh dev
	@JOBS=$(JOBS) tools/run-fuzzers $(FUZZ_SECONDS)

coverage:  ## line coverage of src/ by all tests
	@tools/packages.sh dev
	@find build/cov -name '*.gcda' -delete 2>/dev/null || true
	@JOBS=$(JOBS) PRESET=cov tools/run-tests; failed=$$?; \
	gcovr --root . --filter src/ --object-directory build/cov --exclude-unreachable-branches --sort-percentage; exit $$failed

format:
	@tools/packages.sh dev
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build

install-packages:  ## what building and running needs
	@tools/packages.sh run
