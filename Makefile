# kith: one flat Makefile. `make help` lists the targets.
#
#   VARIANT=release|asan|tsan|fuzz   how it is compiled; objects go to build/VARIANT
#   CC=gcc|clang                     a change of compiler or flags rebuilds what it must
#   ROOM=codec                       `make unit` for one room
#   PAGE=no                          take the web page as it was built last, or none
#   V=1                              show the commands

VARIANT ?= release
B       ?= build
O       := $(B)/$(VARIANT)
PREFIX  ?= /usr/local
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
Q       := $(if $(V),,@)
FUZZ_SECONDS ?= 60

ifeq ($(origin CC),default)
CC := gcc
endif
# Only clang has libFuzzer.
ifeq ($(VARIANT),fuzz)
ifeq ($(findstring clang,$(CC)),)
override CC := clang
endif
endif
AR      ?= ar

MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

# Each of these is asked anew, because `make deps` may have just brought it.
PYTHON = $(firstword $(wildcard .deps/venv/bin/python /usr/bin/python3) python3)

# ---------------------------------------------------------------- what is compiled, and how

PACKAGES    := libcurl sqlite3 yaml-0.1 libssl libcrypto icu-uc icu-i18n
PACKAGE_C   := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LD  := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

WARNINGS    := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wvla -Werror
COMMON      := -std=c17 -D_GNU_SOURCE $(WARNINGS) -Isrc -g -fno-omit-frame-pointer -fPIE -pthread
HARDEN      := -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE \
               -D_FORTIFY_SOURCE=2
LINK_HARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack

FLAGS_release := -O2 $(HARDEN)
FLAGS_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS_tsan    := -O1 -fsanitize=thread
FLAGS_fuzz    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
                 -fsanitize=fuzzer-no-link
LINK_release  := $(LINK_HARDEN)
LINK_asan     := -pie -fsanitize=address,undefined
LINK_tsan     := -pie -fsanitize=thread
LINK_fuzz     := -pie -fsanitize=address,undefined

ifeq ($(FLAGS_$(VARIANT)),)
$(error VARIANT must be release, asan, tsan or fuzz, not "$(VARIANT)")
endif

ALL_CFLAGS  := $(COMMON) $(FLAGS_$(VARIANT)) $(PACKAGE_C) $(CFLAGS)
ALL_LDFLAGS := $(LINK_$(VARIANT)) $(LDFLAGS)
LIBS        := $(PACKAGE_LD) -pthread -lm

TEST_SOURCES := $(sort $(wildcard src/*/*_test.c))
FUZZ_SOURCES := $(sort $(wildcard src/*/*_fuzz.c))
ROOM_SOURCES := $(filter-out $(TEST_SOURCES) $(FUZZ_SOURCES),$(sort $(wildcard src/*/*.c)))
ROOM_OBJECTS := $(ROOM_SOURCES:src/%.c=$(O)/obj/%.o)
WANTED_TESTS := $(filter $(addprefix src/,$(addsuffix /%,$(or $(ROOM),$(notdir $(wildcard src/*))))),\
                $(TEST_SOURCES))
WANTED_FUZZ  := $(filter $(addprefix src/,$(addsuffix /%,$(or $(ROOM),$(notdir $(wildcard src/*))))),\
                $(FUZZ_SOURCES))
TESTS        := $(WANTED_TESTS:src/%.c=$(O)/test/%)
FUZZERS      := $(WANTED_FUZZ:src/%.c=$(O)/fuzz/%)
LIBRARY      := $(O)/libkith.a
GEN          := $(B)/gen
# Beside build/kith, so that every variant finds ../tools and ../.deps in the same way.
BINARY       := $(B)/kith$(if $(filter-out release,$(VARIANT)),-$(VARIANT))

.PHONY: help deps deps-run deps-bench build page run test unit unit-programs fuzz-programs bench-programs e2e \
        e2e-web e2e-model tidy format san fuzz bench install clean FORCE
.DEFAULT_GOAL := build

help:
	@echo 'make run        set up, fetch the chat model, serve on http://127.0.0.1:8080 (ARGS=...)'
	@echo 'make test       set up, then every test; the last line is "N passed, N failed"'
	@echo 'make deps       install what build, tests and the local model need (idempotent)'
	@echo 'make build      $(BINARY)'
	@echo 'make unit       unit tests and fuzz corpora (ROOM=codec for one room)'
	@echo 'make e2e        end-to-end tests; e2e-web in a browser; e2e-model with the chat model'
	@echo 'make tidy       rooms, limits, banned calls, formatting, types; make format fixes C'
	@echo 'make san        the tests under ASan + UBSan and TSan (SAN_E2E=0: unit tests only)'
	@echo 'make fuzz       every fuzzer for FUZZ_SECONDS=60'
	@echo 'make bench      the figures of docs, each beside its floor'
	@echo 'make install    PREFIX=/usr/local DESTDIR='
	@echo 'make clean      remove $(B)'

# ---------------------------------------------------------------- set-up

deps:
	$(Q)tools/deps.sh all

deps-run:
	$(Q)tools/deps.sh run

deps-bench:
	$(Q)tools/deps.sh bench

# ---------------------------------------------------------------- the program

build: $(BINARY)

# Whatever depends on this is rebuilt when the compiler, its version or the flags change.
$(O)/flags: FORCE
	@pkg-config --print-errors --exists $(PACKAGES) || { echo 'run: make deps'; exit 1; }
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(ALL_CFLAGS) | $(ALL_LDFLAGS) $(LIBS)' "$$($(CC) --version)" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(O)/obj/%.o: src/%.c $(O)/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(O)/obj/fuzz_main.o: tools/fuzz_main.c $(O)/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The archive carries an empty page, so that unit tests need none; kith names the real one first.
$(LIBRARY): $(ROOM_OBJECTS) $(O)/obj/gen/assets_none.o
	@echo '  AR    $@'
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BINARY): $(O)/obj/main.o $(O)/obj/gen/assets.o $(LIBRARY)
	@echo '  LINK  $@'
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@.new $^ $(LIBS) && mv $@.new $@

# ---------------------------------------------------------------- the page inside the program

PAGE_SOURCES := $(shell find web sdk/js \( -name node_modules -o -name dist -o -name test \
                -o -name tests -o -name coverage \) -prune -o -type f -print 2>/dev/null)

page: $(GEN)/page.stamp

ifeq ($(PAGE),no)
$(GEN)/page.stamp:
else
$(GEN)/page.stamp: tools/page.sh $(PAGE_SOURCES) $(wildcard web/node_modules/.package-lock.json)
	$(Q)tools/page.sh
endif
	@mkdir -p $(@D)
	@touch $@

$(GEN)/assets.c: $(GEN)/page.stamp tools/embed.py
	$(Q)$(PYTHON) tools/embed.py build/web $@

$(GEN)/assets_none.c: tools/embed.py
	$(Q)$(PYTHON) tools/embed.py --none $@

$(O)/obj/gen/%.o: $(GEN)/%.c $(O)/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# ---------------------------------------------------------------- tests

unit-programs: $(TESTS)

fuzz-programs: $(FUZZERS)

$(O)/test/%: $(O)/obj/%.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

ifeq ($(VARIANT),fuzz)
$(O)/fuzz/%: $(O)/obj/%.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
else
$(O)/fuzz/%: $(O)/obj/%.o $(O)/obj/fuzz_main.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
endif

# Corpora are replayed under sanitizers: by libFuzzer if clang has it, else by a main of ours.
REPLAY = $(if $(wildcard $(shell clang -print-resource-dir 2>/dev/null)/lib/linux/libclang_rt.fuzzer-*),fuzz,asan)
RUN_TESTS = $(PYTHON) tools/run_tests.py --build $(B) --variant $(VARIANT) --room '$(ROOM)'

unit: unit-programs
	$(Q)replay=$(REPLAY); $(MAKE) --no-print-directory VARIANT=$$replay fuzz-programs && \
	    $(RUN_TESTS) --replay $$replay $(if $(ROOM),,tools) unit corpus

test: deps
	$(Q)replay=$(REPLAY); $(MAKE) --no-print-directory build unit-programs && \
	    $(MAKE) --no-print-directory VARIANT=$$replay fuzz-programs && \
	    $(RUN_TESTS) --replay $$replay tools unit corpus sdk web e2e e2e-web

e2e e2e-web e2e-model: build
	$(Q)$(RUN_TESTS) --binary $(BINARY) $@

# ThreadSanitizer where threads meet; AddressSanitizer everywhere.
TSAN_ROOMS := engine bus net diag journal
SAN_E2E    ?= 1
san:
	$(Q)$(MAKE) --no-print-directory VARIANT=asan $(if $(filter 1,$(SAN_E2E)),build) unit-programs fuzz-programs
	$(Q)$(MAKE) --no-print-directory VARIANT=tsan ROOM='$(TSAN_ROOMS)' unit-programs
	$(Q)$(PYTHON) tools/run_tests.py --build $(B) --variant asan --replay asan \
	    --binary $(B)/kith-asan unit tsan corpus $(if $(filter 1,$(SAN_E2E)),e2e)

fuzz:
	$(Q)$(MAKE) --no-print-directory VARIANT=fuzz fuzz-programs
	$(Q)$(RUN_TESTS) --fuzz-seconds $(FUZZ_SECONDS) fuzz

tidy:
	$(Q)$(PYTHON) tools/tidy.py

format:
	$(Q)$$(command -v clang-format-14 || echo clang-format) -i $$(find src bench tools -name '*.[ch]')
	$(Q)if [ -x web/node_modules/.bin/prettier ]; then cd web && ../tools/node.sh npm run --silent format; fi

# ---------------------------------------------------------------- use it

run: deps-run
	$(Q)$(MAKE) --no-print-directory build
	$(Q)$(PYTHON) tools/models.py fetch chat || tools/no_model.sh
	$(Q)exec $(BINARY) serve $(ARGS)

BENCHES := $(patsubst bench/%.c,$(O)/bench/%,$(sort $(wildcard bench/*.c)))

bench-programs: $(BENCHES)

$(O)/bench/%: bench/%.c $(LIBRARY)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -o $@ $< $(LIBRARY) $(LIBS)

bench: deps-bench
	$(Q)$(MAKE) --no-print-directory build bench-programs
	$(Q)if [ -f bench/run.py ]; then $(PYTHON) bench/run.py $(ARGS); \
	    else echo 'bench/run.py is not in this tree'; exit 1; fi

install: build
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/kith
	install -D -m 644 tools/llama_child.py $(DESTDIR)$(PREFIX)/share/kith/llama_child.py
	install -D -m 644 tools/models.py $(DESTDIR)$(PREFIX)/share/kith/models.py
	install -D -m 644 tools/models.json $(DESTDIR)$(PREFIX)/share/kith/models.json
	install -D -m 644 tools/requirements.txt $(DESTDIR)$(PREFIX)/share/kith/requirements.txt
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/kith/LICENSE

clean:
	rm -rf $(B)

FORCE:

-include $(wildcard $(O)/obj/*.d $(O)/obj/*/*.d)
