# Fuzz targets: tests/fuzz/NAME_fuzz.c with its corpus in tests/fuzz/corpus/NAME/.
#
#   make tests   builds tests/NAME_fuzz_test: the corpus and inputs made from it, any compiler
#   make fuzz    libFuzzer for FUZZ_SECONDS per target; what it finds goes to the corpus (clang only)

FUZZ_NAMES := $(patsubst tests/fuzz/%_fuzz.c,%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_SECONDS ?= 60
FUZZ_BUILD := $(BUILD)/fuzz

tests: $(FUZZ_NAMES:%=$(BUILD)/tests/%_fuzz_test)

$(BUILD)/tests/%_fuzz_test: tests/fuzz/%_fuzz.c tests/fuzz/drive.c tests/lib/prng.h \
                            $(BUILD)/libswitchyard.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(filter-out -MMD -MP,$(CPPFLAGS)) -Itests/lib -DSY_CORPUS='"tests/fuzz/corpus/$*"' \
	        $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.a,$^) $(LDLIBS)

.PHONY: fuzz
fuzz:
	$(MAKE) CC=clang BUILD=$(FUZZ_BUILD) SAN=fuzzer-no-link,address,undefined \
	        $(FUZZ_BUILD)/libswitchyard.a
	for name in $(FUZZ_NAMES); do \
	    clang -std=c11 -g -O1 -Iinclude -Isrc -pthread -fsanitize=fuzzer,address,undefined \
	        -o $(FUZZ_BUILD)/$$name tests/fuzz/$${name}_fuzz.c $(FUZZ_BUILD)/libswitchyard.a -ldl && \
	    mkdir -p $(FUZZ_BUILD)/found-$$name && \
	    $(FUZZ_BUILD)/$$name -max_total_time=$(FUZZ_SECONDS) -max_len=1200 -timeout=20 \
	        $(FUZZ_BUILD)/found-$$name tests/fuzz/corpus/$$name && \
	    $(FUZZ_BUILD)/$$name -merge=1 tests/fuzz/corpus/$$name $(FUZZ_BUILD)/found-$$name || exit 1; \
	done
