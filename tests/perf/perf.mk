# perf.mk - comparisons that take minutes and a quiet machine: `make perf`.

MPICC ?= mpicc

$(BUILD)/perf/mpi_alltoallv: tests/perf/mpi_alltoallv.c tools/batch.c tools/batch.h
	@mkdir -p $(@D)
	@echo "  MPICC $@"
	$(Q)$(MPICC) -O3 -march=native -std=c11 -ffp-contract=off $(WARN) -Iinclude -Itools -o $@ \
	        tests/perf/mpi_alltoallv.c tools/batch.c -lm

.PHONY: perf
perf: $(BUILD)/switchyard $(BUILD)/perf/mpi_alltoallv
	python3 tests/perf/compare.py --build $(BUILD)
	python3 tests/perf/scaling.py --build $(BUILD)
