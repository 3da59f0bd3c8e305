# Switchyard. `make help` lists what can be made. Building needs a C compiler and make, no more.

CC      ?= cc
CXX     ?= c++
BUILD   ?= build
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
# What the sanitizers insert takes the optimiser minutes.
CFLAGS  ?= $(if $(SAN),-O1,-O2) -g

VERSION := $(shell sed -n 's/^\#define SY_VERSION_[A-Z]* //p' include/switchyard.h | paste -sd.)
SOMAJOR := $(firstword $(subst ., ,$(VERSION)))
COMMIT  := $(shell git rev-parse --short HEAD 2>/dev/null || echo release)
ARCH    := $(shell $(CC) -dumpmachine 2>/dev/null)
Q       := $(if $(V),,@)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
        -Wpointer-arith -Wcast-qual -Wno-psabi $(if $(WERROR),-Werror)
SANITIZE := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
# TSan does not follow fences, and gcc says so at each (clang does not know the option). What TSan
# inserts also hides from gcc that a function which returned 1 has set what it was to set.
ifeq ($(SAN),thread)
WARN += -Wno-tsan -Wno-unknown-warning-option -Wno-maybe-uninitialized
endif
override CFLAGS += -std=c11 -fPIC -fvisibility=hidden -ffp-contract=off -fno-strict-aliasing \
        -pthread $(WARN) $(SANITIZE)
CPPFLAGS += -Iinclude -Isrc -MMD -MP
LDFLAGS  += -pthread $(SANITIZE)
LDLIBS   += -ldl

.PHONY: all
all: $(BUILD)/libswitchyard.so $(BUILD)/libswitchyard.a $(BUILD)/switchyard

# ---- the library ---------------------------------------------------------------------------------

LIB_SRC := $(wildcard src/base/*.c src/layout/*.c src/plan/*.c src/mem/*.c src/boot/*.c \
             src/rt/*.c src/api/*.c)
LIB_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out src/rt/cpu_kernels.c,$(LIB_SRC))) \
           $(BUILD)/src/rt/cpu_kernels_base.o
# The kernels once more for processors with AVX2, chosen at run time.
ifneq ($(filter x86_64%,$(ARCH)),)
LIB_OBJ += $(BUILD)/src/rt/cpu_kernels_avx2.o
endif
SONAME := libswitchyard.so.$(SOMAJOR)

$(BUILD)/src/%.o: src/%.c
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(CPPFLAGS) -DSY_BUILD $(CFLAGS) -c -o $@ $<

# sy_version() names the commit.
$(BUILD)/src/api/query.o: $(wildcard .git/logs/HEAD)
$(BUILD)/src/api/query.o: CPPFLAGS += -DSY_BUILD_NAME='"$(COMMIT)"'

$(BUILD)/src/rt/cpu_kernels_base.o: src/rt/cpu_kernels.c
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(CPPFLAGS) -DSY_BUILD $(CFLAGS) -DSY_KERNELS_FOR=base -c -o $@ $<

$(BUILD)/src/rt/cpu_kernels_avx2.o: src/rt/cpu_kernels.c
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(CPPFLAGS) -DSY_BUILD $(CFLAGS) $(if $(SAN),,-O3) -mavx2 -mbmi -mbmi2 -mfma -mf16c \
	        -DSY_KERNELS_FOR=avx2 -c -o $@ $<

$(BUILD)/libswitchyard.a: $(LIB_OBJ)
	@echo "  AR    $@"
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/$(SONAME): $(LIB_OBJ)
	@echo "  LD    $@"
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,-z,defs $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libswitchyard.so: $(BUILD)/$(SONAME)
	$(Q)ln -sf $(SONAME) $@

# ---- the command and the example -----------------------------------------------------------------

REF_OBJ  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/ref/*.c))
TOOL_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tools/*.c))

$(BUILD)/tools/%.o: tools/%.c
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/switchyard: $(TOOL_OBJ) $(REF_OBJ) $(BUILD)/libswitchyard.a
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lm

$(BUILD)/hello: examples/hello.c $(BUILD)/libswitchyard.a
	@echo "  CC    $@"
	$(Q)$(CC) -std=c11 $(WARN) -Iinclude $(LDFLAGS) -o $@ $^ $(LDLIBS)

# ---- tests ---------------------------------------------------------------------------------------

SHARED_TEST_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/lib/*.c) tests/conform/run_case.c)
TEST_DIRS  := tests/unit tests/conform tests/fault
TEST_PROGS := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(wildcard $(TEST_DIRS:%=%/*_test.c))))
vpath %_test.c $(TEST_DIRS)

$(BUILD)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(CPPFLAGS) -Itests/lib -Itests/conform $(CFLAGS) -c -o $@ $<

$(BUILD)/tests/%_test: %_test.c $(SHARED_TEST_OBJ) $(REF_OBJ) $(BUILD)/libswitchyard.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CPPFLAGS) -Itests/lib -Itests/conform -Itests/unit $(CFLAGS) $(LDFLAGS) -o $@ $< \
	        $(SHARED_TEST_OBJ) $(REF_OBJ) $(BUILD)/libswitchyard.a $(LDLIBS) -lm

# A driver that is not there, for commands: tests/tool.
FAKE_GPU := $(BUILD)/tests/fake/libcuda.so.1
$(FAKE_GPU): tests/tool/fake_gpu.c $(BUILD)/libswitchyard.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CPPFLAGS) -Itests/unit $(CFLAGS) $(LDFLAGS) -shared -o $@ $< \
	        $(BUILD)/libswitchyard.a $(LDLIBS)

.PHONY: tests
tests: $(TEST_PROGS) $(FAKE_GPU)
.SECONDARY: $(SHARED_TEST_OBJ)

-include src/rt/cuda.mk sim/sim.mk tests/fuzz/fuzz.mk tests/perf/perf.mk

.PHONY: demo
demo:
	@scripts/deps build
	@$(MAKE) --no-print-directory all
	$(BUILD)/switchyard bench --ranks 8

.PHONY: check
check:
	@scripts/deps check
	@scripts/check

.PHONY: tidy
tidy:
	@python3 scripts/tidy.py

# ---- installing ----------------------------------------------------------------------------------

INSTALLED := $(DESTDIR)$(PREFIX)

.PHONY: install
install: all
	install -d $(INSTALLED)/bin $(INSTALLED)/include $(INSTALLED)/share/man/man1 \
	        $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 755 $(BUILD)/switchyard $(INSTALLED)/bin/
	install -m 644 include/switchyard.h $(INSTALLED)/include/
	install -m 644 man/switchyard.1 $(INSTALLED)/share/man/man1/
	install -m 644 $(BUILD)/libswitchyard.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(BUILD)/$(SONAME) $(DESTDIR)$(LIBDIR)/libswitchyard.so.$(VERSION)
	ln -sf libswitchyard.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libswitchyard.so
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
	        switchyard.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/switchyard.pc

.PHONY: clean
clean:
	rm -rf $(BUILD)

.PHONY: help
help:
	@echo "make             the library and the command, in $(BUILD)/"
	@echo "make demo        8 ranks on this machine dispatch and combine; shows times and rates"
	@echo "make check       every test that needs no GPU; installs what it needs, where it may"
	@echo "make tests       builds the test programs, in $(BUILD)/tests/"
	@echo "make $(BUILD)/switchyard-sim   the simulator; docs/SIMULATOR.md"
	@echo "make tidy        the style of the sources, as a test"
	@echo "make install     to PREFIX=$(PREFIX), below DESTDIR if that is set"
	@echo "make clean"
	@echo "Variables: CC, CFLAGS, BUILD, PREFIX, LIBDIR, DESTDIR, WERROR=1 (warnings are errors),"
	@echo "SAN=address,undefined (sanitizers), V=1 (shows commands)"

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
