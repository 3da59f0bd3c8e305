# sim.mk - the simulator, included by the Makefile: $(BUILD)/switchyard-sim, and
# $(BUILD)/switchyard-sim-plants with the mistakes of sim/plants.c in it.
#
# The library's sources are compiled once more for it: host code with the simulator's threads and
# locks (sim/threads.h), device code with the compiler's thread instrumentation, behind which stand
# our own functions (sim/shadow.c). Sanitizers, which want that instrumentation for themselves, are
# left out of device code.

SIM_DIR   := $(BUILD)/sim
SIM_OWN   := $(filter-out sim/kernels.c,$(wildcard sim/*.c))
SIM_HOST  := $(filter-out src/boot/fds.c,$(wildcard src/api/*.c src/boot/*.c)) src/mem/heap_shm.c \
             src/mem/ualloc.c src/base/params.c
SIM_PLAIN := $(filter-out $(addprefix src/base/,os.c cuda_api.c params.c process.c), \
             $(wildcard src/base/*.c)) \
             $(wildcard src/layout/*.c src/plan/*.c src/ref/*.c) src/rt/fiber.c
# Loops of which the compiler makes calls are accesses, too.
OBJCOPY   ?= objcopy
SIM_CALLS := --redefine-sym memcpy=__tsan_memcpy --redefine-sym memmove=__tsan_memmove \
             --redefine-sym memset=__tsan_memset
SIM_FLAGS := -iquote sim -iquote tests/lib

sim_objects = $(patsubst %.c,$(1)/%.o,$(SIM_OWN) $(SIM_HOST) $(SIM_PLAIN) sim/kernels.c)

define sim_rules
$(1)/sim/kernels.o: sim/kernels.c
	@mkdir -p $$(@D)
	@echo "  CC    $$@"
	$$(Q)$$(CC) $$(CPPFLAGS) $$(SIM_FLAGS) $(2) -DSY_TARGET_SIM \
	        $$(filter-out -fsanitize% -fno-sanitize%,$$(CFLAGS)) -fsanitize=thread -c -o $$@ $$<
	$$(Q)$$(OBJCOPY) $$(SIM_CALLS) $$@

$(1)/sim/%.o: sim/%.c
	@mkdir -p $$(@D)
	@echo "  CC    $$@"
	$$(Q)$$(CC) $$(CPPFLAGS) $$(SIM_FLAGS) $(2) -DSY_TARGET_SIM $$(CFLAGS) -c -o $$@ $$<

$(1)/src/api/%.o: src/api/%.c
	@mkdir -p $$(@D)
	@echo "  CC    $$@"
	$$(Q)$$(CC) $$(CPPFLAGS) $$(SIM_FLAGS) $(2) -include sim/threads.h $$(CFLAGS) -c -o $$@ $$<

$(1)/src/boot/%.o: src/boot/%.c
	@mkdir -p $$(@D)
	@echo "  CC    $$@"
	$$(Q)$$(CC) $$(CPPFLAGS) $$(SIM_FLAGS) $(2) -include sim/threads.h $$(CFLAGS) -c -o $$@ $$<

$(1)/src/base/params.o: src/base/params.c
	@mkdir -p $$(@D)
	@echo "  CC    $$@"
	$$(Q)$$(CC) $$(CPPFLAGS) $$(SIM_FLAGS) $(2) -include sim/threads.h $$(CFLAGS) -c -o $$@ $$<

$(1)/src/%.o: src/%.c
	@mkdir -p $$(@D)
	@echo "  CC    $$@"
	$$(Q)$$(CC) $$(CPPFLAGS) $(2) $$(CFLAGS) -c -o $$@ $$<
endef

$(eval $(call sim_rules,$(SIM_DIR)/plain,))
$(eval $(call sim_rules,$(SIM_DIR)/plants,-DSY_PLANTS))

$(BUILD)/switchyard-sim: $(call sim_objects,$(SIM_DIR)/plain)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lm

$(BUILD)/switchyard-sim-plants: $(call sim_objects,$(SIM_DIR)/plants)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lm

# ---- tests ---------------------------------------------------------------------------------------

# Litmus tests of the memory model. Their warps' accesses are all through primitives, so they need
# no instrumentation; ownership is the library's affair.
MODEL_OBJ := $(patsubst %,$(SIM_DIR)/plain/%.o,sim/arena sim/block sim/bulk sim/clock sim/network \
               sim/report sim/shadow sim/tasks sim/weak src/base/status src/rt/fiber)
# fiber.c takes its stacks from the system that system.c stands for; that needs the rest of it.
MODEL_OBJ += $(patsubst %,$(SIM_DIR)/plain/%.o,sim/sockets sim/system sim/threads)

$(BUILD)/tests/model_test: tests/sim/model_test.c $(MODEL_OBJ)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CPPFLAGS) $(SIM_FLAGS) -DSY_TARGET_SIM $(CFLAGS) $(LDFLAGS) -o $@ $< $(MODEL_OBJ)

tests: $(BUILD)/tests/model_test
