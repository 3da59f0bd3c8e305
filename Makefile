# Switchyard. `make help` lists what can be made. Needs a C compiler and make, nothing else.
#
# Variables: CC, CFLAGS, PREFIX, DESTDIR, BUILD (where objects go), SAN (e.g. address,undefined),
# WERROR=1 (warnings are errors).

CC      ?= cc
BUILD   ?= build
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
VERSION := 0.1.0
SOMAJOR := 0
CFLAGS  ?= -O2 -g

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
        -Wpointer-arith -Wcast-qual -Wno-psabi $(if $(WERROR),-Werror)
override CFLAGS += -std=c11 -fPIC -fvisibility=hidden -ffp-contract=off -fno-strict-aliasing \
        -pthread $(WARN) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
CPPFLAGS += -Iinclude -Isrc -DSY_BUILD -MMD -MP
LDFLAGS  += -pthread $(if $(SAN),-fsanitize=$(SAN))
LDLIBS   += -ldl

ARCH := $(shell $(CC) -dumpmachine)

LIB_SRC := $(wildcard src/base/*.c src/layout/*.c src/plan/*.c src/mem/*.c src/boot/*.c \
             src/rt/*.c src/api/*.c)
LIB_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out src/rt/cpu_kernels.c,$(LIB_SRC))) \
           $(BUILD)/src/rt/cpu_kernels_base.o
# The kernels once more for processors with AVX2, chosen at run time.
ifneq ($(filter x86_64%,$(ARCH)),)
LIB_OBJ += $(BUILD)/src/rt/cpu_kernels_avx2.o
endif

SONAME := libswitchyard.so.$(SOMAJOR)

.PHONY: all
all: $(BUILD)/libswitchyard.so $(BUILD)/libswitchyard.a

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/src/rt/cpu_kernels_base.o: src/rt/cpu_kernels.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -DSY_KERNELS_FOR=base -c -o $@ $<

$(BUILD)/src/rt/cpu_kernels_avx2.o: src/rt/cpu_kernels.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -O3 -mavx2 -mbmi -mbmi2 -mfma -DSY_KERNELS_FOR=avx2 -c -o $@ $<

$(BUILD)/libswitchyard.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/$(SONAME): $(LIB_OBJ)
	$(CC) -shared -Wl,-soname,$(SONAME) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libswitchyard.so: $(BUILD)/$(SONAME)
	ln -sf $(SONAME) $@

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(LIB_OBJ:.o=.d)
