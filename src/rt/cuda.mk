# cuda.mk - what the CUDA engine adds to the build; included by the Makefile.

# The device sources are copied into the library as they are; -MMD does not see that.
$(BUILD)/src/rt/jit_sources.o: $(wildcard src/device/* src/layout/*.h src/layout/*.def)

# Tests that need GPUs; they skip themselves where there are none. scripts/gpu-check runs them.
GPU_TESTS := $(patsubst tests/gpu/%.c,$(BUILD)/gpu/%,$(wildcard tests/gpu/gpu_*_test.c) \
               tests/gpu/gpu_conform.c)

.PHONY: gpu-tests
gpu-tests: $(GPU_TESTS)

$(BUILD)/gpu/%: $(BUILD)/tests/gpu/%.o $(BUILD)/tests/gpu/cu.o $(BUILD)/tests/gpu/gpu_world.o \
                $(SHARED_TEST_OBJ) $(REF_OBJ) $(BUILD)/libswitchyard.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lm

# The tool that nvtx_test attaches.
$(BUILD)/tests/nvtx_test: | $(BUILD)/tests/nvtx_recorder.so

$(BUILD)/tests/nvtx_recorder.so: tests/unit/nvtx_recorder.c
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $<

# Every kernel for every kind of GPU, compiled without one.
.PHONY: check-nvrtc check-lanes
check-nvrtc: $(BUILD)/nvrtc/nvrtc_check
	@mkdir -p $(BUILD)/nvrtc/cubins && rm -f $(BUILD)/nvrtc/cubins/*
	@if lib=$$(scripts/nvrtc-find $(BUILD)/nvrtc/lib); then \
	    LD_LIBRARY_PATH=$$lib:$$LD_LIBRARY_PATH $< tests/nvrtc/limits.txt $(BUILD)/nvrtc/cubins; \
	else echo "skip nvrtc: see above"; echo "0 passed, 0 failed, 1 skipped"; fi

# What the compiler has made of the collectives in them; after check-nvrtc.
check-lanes:
	@python3 tests/nvrtc/lanes.py "$$(scripts/nvrtc-find $(BUILD)/nvrtc/lib nvdisasm)" \
	        $(BUILD)/nvrtc/cubins

$(BUILD)/nvrtc/nvrtc_check: $(BUILD)/tests/nvrtc/nvrtc_check.o $(BUILD)/libswitchyard.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# `make AOT=1`: kernels that are compiled now and become part of the library, which then needs no
# NVRTC where it runs. Takes a minute or two, and NVRTC. AOT="90 100": for these kinds of GPU only.
ifdef AOT
$(BUILD)/src/rt/jit_aot.o: $(BUILD)/aot/jit_aot.inc
$(BUILD)/src/rt/jit_aot.o: CPPFLAGS += -DSY_AOT -I$(BUILD)/aot

$(BUILD)/aot/jit_aot.inc: $(BUILD)/aot/aot $(BUILD)/aot/wanted
	@lib=$$(scripts/nvrtc-find $(BUILD)/nvrtc/lib) && \
	    LD_LIBRARY_PATH=$$lib:$$LD_LIBRARY_PATH $< $(@D) $(filter-out 1,$(AOT))

$(BUILD)/aot/aot: scripts/aot.c $(filter-out %/jit_aot.o,$(LIB_OBJ))
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CPPFLAGS) -DSY_BUILD $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) \
	        $(LDLIBS) -lm

# Changes when other kinds are asked for.
.PHONY: FORCE
$(BUILD)/aot/wanted: FORCE
	@mkdir -p $(@D)
	@echo "$(AOT)" | cmp -s - $@ || echo "$(AOT)" > $@
endif

# A library with kernels for Hopper, in a folder of its own, at work where there is no NVRTC.
.PHONY: check-aot
check-aot:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/with-aot AOT=90 $(BUILD)/with-aot/tests/aot_test
	@$(BUILD)/with-aot/tests/aot_test
