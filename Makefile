# make          build ./tessera
# make demo     install what is missing, build, render a clip and a picture into out/
# make check    install what is missing, build, run every test
# make help     every target
CC ?= gcc
PREFIX ?= /usr/local
# sampler/tessera.h has it: 0.1.0
VERSION := $(shell awk '$$2 ~ /^TS_VERSION_(MAJOR|MINOR|PATCH)$$/ {v = v d $$3; d = "."} \
  END {print v}' sampler/tessera.h)
# The number grows when a program that was linked before no longer works (docs/api.md).
SONAME := libtessera.so.0
B := build
PKGS := libpng libavformat libavcodec libswscale libavutil libcjson libutf8proc libpcre2-8 libexif
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion \
  -Werror=implicit-function-declaration
CFLAGS ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -DTS_VERSION='"$(VERSION)"'
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
CHECK_LIBS := $(shell pkg-config --libs check 2>/dev/null)
# Hidden: what is not marked TS_API is no part of the library's face. The same objects make the
# archive and the shared library.
ALL_CFLAGS = -std=gnu11 $(WARN) -fopenmp -fno-math-errno -fPIC -fvisibility=hidden $(CFLAGS) \
  $(PKG_CFLAGS)
OWN_LIBS := -ldnnl -lm -fopenmp -pthread
LDLIBS = $(PKG_LIBS) $(OWN_LIBS)

LIB_DIRS := backend backend/cpu weights attention prompts dit codecs sampler
# make CUDA=1: kernels by nvcc, host code against the toolkit's headers, its runtime linked in.
# sm_80's code runs on 8.x, sm_90's on 9.0; later chips compile compute_90's.
CUDA_HOME ?= $(patsubst %/bin/,%,$(dir $(firstword $(shell command -v nvcc 2>/dev/null) \
  $(lastword $(sort $(wildcard /usr/local/cuda*/bin/nvcc))))))
NVCC ?= $(wildcard $(CUDA_HOME)/bin/nvcc)
CUDA_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
CUDA_OBJ := $(patsubst %.cu,$(B)/cuda/%.o,$(sort $(wildcard backend/cuda/*.cu)))
CUDA_LIBS = -L$(CUDA_HOME)/lib64 -lcudart_static -ldl -lrt -lstdc++ -Wl,-rpath,$(CUDA_HOME)/lib64
ifeq ($(CUDA),1)
$(if $(NVCC),,$(error CUDA=1: no nvcc in PATH or /usr/local/cuda*/bin; CUDA_HOME=folder names it))
CPPFLAGS += -DTS_CUDA
LIB_DIRS += backend/cuda
OWN_LIBS += $(CUDA_LIBS)
endif
LIB_SRC := $(sort $(foreach d,$(LIB_DIRS),$(wildcard $(d)/*.c)))
# installed, side by side; tools/layers.sh keeps their includes among themselves
HEADERS := backend/base.h prompts/prompt_file.h sampler/tessera.h sampler/tessera-bench.h
HIREDIS := $(shell pkg-config --exists hiredis 2>/dev/null && echo yes)
CLI_SRC := $(sort $(filter-out $(if $(HIREDIS),%/queue_none.c,%/queue_redis.c), \
  $(wildcard cli/*.c cli/*/*.c)))
CLI_LIBS := $(if $(HIREDIS),$(shell pkg-config --libs hiredis))
TEST_SRC := $(sort $(filter-out tests/cuda/%,$(wildcard tests/*/test_*.c)))
TEST_LIB := $(sort $(filter-out $(TEST_SRC) tests/cuda/%,$(wildcard tests/*.c tests/*/*.c)))
# CUDA on an emulated device (tests/README.md): kernels and host code, for programs of tests alone.
# g++ of the version of gcc, by ccache where gcc is.
ifeq ($(origin CXX),default)
CXX := $(if $(findstring gcc,$(CC)),$(subst gcc,g++,$(CC)),g++)
endif
HAS_EMU := $(shell $(CXX) -dumpmachine 2>/dev/null | grep '^x86_64')
# NVIDIA's libraries have twins in tests/cuda/emu.
CUDA_LIBRARIES := backend/cuda/cuda_lt.c backend/cuda/cuda_dnn.c
EMU_SRC := $(sort $(filter-out $(CUDA_LIBRARIES) %/bench_main.c,$(wildcard \
  backend/cuda/*.c backend/cuda/*.cu tests/cuda/emu/*.c tests/cuda/emu/*.cpp tests/cuda/bench/*.c)))
CUDA_TEST_SRC := $(sort $(wildcard tests/cuda/test_*.c tests/cuda/test_*.cpp tests/cuda/test_*.cu))
CUDA_TEST_BIN := $(if $(HAS_EMU),$(patsubst %,$(B)/%,$(basename $(CUDA_TEST_SRC))))
EMU_OBJ := $(patsubst %,$(B)/emu/%.o,$(basename $(EMU_SRC)))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(if $(filter 1,$(CUDA)),$(CUDA_OBJ))
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%) $(CUDA_TEST_BIN)
JOBS = -j$$(nproc)
AGAIN = @$(MAKE) --no-print-directory $(JOBS)

.SECONDARY:
.PHONY: all
all: tessera ## build ./tessera
tessera: $(B)/tessera
	@ln -f $< $@
$(B)/tessera: $(CLI_OBJ) $(B)/libtessera.a $(B)/linked
	@mkdir -p $(@D)
	@echo "  LD $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(CLI_OBJ) $(B)/libtessera.a $(LDLIBS) $(CLI_LIBS)
$(B)/libtessera.a: $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^
$(B)/$(SONAME): $(LIB_OBJ)
	@echo "  LD $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,-z,defs -o $@ $^ $(LDLIBS)
# One kernel file an instruction set, each with its own flags; nothing else, and no test of them, is
# compiled for more than the baseline. SIMDe's vectors pass through functions compiled for the
# baseline, within one program: their ABI is nobody else's concern.
AVX2 := -mavx2 -mfma -mf16c
AVX512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl $(AVX2)
$(B)/tests/backend/test_attention_simde%.o: ISA := -Wno-psabi
$(B)/backend/cpu/%_avx2.o $(B)/lint/backend/cpu/%_avx2.c: ISA := $(AVX2)
$(B)/backend/cpu/%_avx512.o $(B)/lint/backend/cpu/%_avx512.c: ISA := $(AVX512)
$(B)/backend/cuda/%.o: ISA := -isystem $(CUDA_HOME)/include
BF16 := $(AVX512) -mavx512bf16
$(B)/backend/cpu/%_avx512_bf16.o $(B)/lint/backend/cpu/%_avx512_bf16.c: ISA := $(BF16)
# Objects of other flags are made anew.
FLAGS = $(subst ','\'',$(CPPFLAGS) $(ALL_CFLAGS))
.PHONY: FORCE
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' >$@
# The program is linked anew when what it is linked of changes: hiredis came, or went.
LINKED = $(CLI_OBJ) $(LDLIBS) $(CLI_LIBS)
$(B)/linked: FORCE
	@mkdir -p $(@D)
	@echo '$(LINKED)' | cmp -s - $@ || echo '$(LINKED)' >$@
# So is the object that knows where the default model is installed, for another PREFIX.
$(B)/place: FORCE
	@mkdir -p $(@D)
	@echo '$(PREFIX)' | cmp -s - $@ || echo '$(PREFIX)' >$@
$(B)/sampler/context.o: $(B)/place
$(B)/sampler/context.o $(B)/lint/sampler/context.c: PLACE = \
  -DTS_DEFAULT_INSTALLED='"$(PREFIX)/share/tessera/default"'
$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(CPPFLAGS) $(PLACE) $(ALL_CFLAGS) $(ISA) -MMD -MP -c -o $@ $<
$(B)/tests/%: $(B)/tests/%.o $(TEST_LIB:%.c=$(B)/%.o) $(B)/libtessera.a
	@echo "  LD $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(CHECK_LIBS)
-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_SRC:%.c=$(B)/%.d) $(TEST_LIB:%.c=$(B)/%.d)

# ---- the emulated device ----
# Kernels call the emulator at every load and store (tests/cuda/emu/shadow.cpp) instead of gcc's
# library for that; they and the emulator are fast and not sanitized whatever the build is.
EMU_CXX = $(CXX) $(CPPFLAGS) -Itests/cuda/emu -std=c++17 -Wall -Wextra
EMU_KERNEL = $(EMU_CXX) -O3 -g -fsanitize=thread,alignment -x c++
EMU_FLAGS = $(subst ','\'',$(EMU_KERNEL))
$(B)/emu/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(EMU_FLAGS)' | cmp -s - $@ || echo '$(EMU_FLAGS)' >$@
$(B)/emu/%.o: %.cu $(B)/emu/flags
	@mkdir -p $(@D)
	@echo "  EMU $<"
	@$(EMU_KERNEL) -MMD -MP -c -o $@ $<
$(B)/emu/tests/cuda/emu/%.o: tests/cuda/emu/%.cpp $(B)/emu/flags
	@mkdir -p $(@D)
	@echo "  CXX $<"
	@$(EMU_CXX) -O3 -g -MMD -MP -c -o $@ $<
$(B)/emu/%.o: %.cpp $(B)/emu/flags $(B)/flags
	@mkdir -p $(@D)
	@echo "  CXX $<"
	@$(EMU_CXX) -fopenmp $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/emu/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC $< (emulated)"
	@$(CC) $(CPPFLAGS) -Itests/cuda/emu $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/emu/libcuda.a: $(EMU_OBJ)
	@rm -f $@
	@ar rcs $@ $^
$(B)/tests/cuda/%: $(B)/emu/tests/cuda/%.o $(B)/emu/libcuda.a $(TEST_LIB:%.c=$(B)/%.o) \
    $(B)/libtessera.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	@$(CXX) -fopenmp $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(CHECK_LIBS)
# The program with the emulated device, which does as a test tells it by the environment.
EMU_PROGRAM := $(B)/emu/backend/device.o $(B)/emu/tests/cuda/program/emu_program.o
$(B)/emu/backend/device.o: CPPFLAGS += -DTS_CUDA
$(B)/emu/tessera: $(CLI_OBJ) $(EMU_PROGRAM) $(B)/libtessera.a $(B)/emu/libcuda.a
	@echo "  LD $@"
	@$(CXX) -fopenmp $(CFLAGS) $(LDFLAGS) -o $@ $^ $(B)/libtessera.a $(LDLIBS) $(CLI_LIBS)
$(B)/tests/cuda/test_cuda_program: | $(B)/emu/tessera
# the flash kernels once more for each fault that their source can have planted
PLANTED := $(foreach n,1 2 3 4 5,$(B)/emu/planted/flash$(n).o)
$(B)/tests/cuda/test_flash_planted: $(PLANTED)
$(PLANTED): $(B)/emu/planted/flash%.o: backend/cuda/flash.cu $(B)/emu/flags
	@mkdir -p $(@D)
	@echo "  EMU $< (planted fault $*)"
	@$(EMU_KERNEL) -DTS_PLANTED=$* -Dts_flash_kernels=ts_flash_planted$* \
	  -Dts_flash_count=ts_flash_planted_count$* -MMD -MP -c -o $@ $<
-include $(EMU_OBJ:.o=.d) $(EMU_PROGRAM:.o=.d) $(PLANTED:.o=.d) \
  $(patsubst %,$(B)/emu/%.d,$(basename $(CUDA_TEST_SRC)))

# ---- CUDA by nvcc ----
# A spill is an error, and what ptxas says of each kernel stays beside its object
# (tools/cuda-check.sh).
NVCC_FLAGS = -std=c++17 -O3 $(CPPFLAGS) $(CUDA_ARCH) -Xptxas -v,-warn-spills,-Werror \
  -Werror all-warnings -Xcompiler -fPIC,-fvisibility=hidden
$(B)/cuda/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(NVCC) $(NVCC_FLAGS))' | cmp -s - $@ || \
	  echo '$(subst ','\'',$(NVCC) $(NVCC_FLAGS))' >$@
$(B)/cuda/%.o: %.cu $(B)/cuda/flags
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	@$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $< >$@.ptxas 2>&1 || \
	  { cat $@.ptxas; rm -f $@; exit 1; }
-include $(CUDA_OBJ:.o=.d)
.PHONY: cuda-check-build cuda-registers
cuda-check-build: $(if $(NVCC),$(CUDA_OBJ) build-check-cuda build-bench-cuda) ## compile for GPUs
	$(if $(NVCC),@tools/cuda-check.sh check $(NVCC) $(CUDA_OBJ),\
	  @echo "skip: CUDA kernels are not compiled by nvcc: it is not installed")
cuda-registers: $(CUDA_OBJ) ## make tests/cuda/registers.txt anew
	@tools/cuda-check.sh update $(NVCC) $(CUDA_OBJ)

# The tests of kernels and of the device on the GPU of this machine, ptx.h's instructions first.
# They need nvcc, gcc, g++ and make: tests/cuda/bare stands in for Check and oneDNN. Whole pipelines
# need cJSON, utf8proc and PCRE2; a program that was built elsewhere brings them in gpu/lib.
GPU_TEST_SRC := tests/cuda/test_ptx.cu $(filter-out %/test_ptx.cu %/test_emu.cu \
  %/test_flash_planted.cpp,$(sort $(wildcard tests/cuda/test_*.cpp tests/cuda/test_*.cu))) \
  tests/cuda/test_cuda_device.c
GPU_PKGS := libcjson libutf8proc libpcre2-8
ifeq ($(shell pkg-config --exists $(GPU_PKGS) 2>/dev/null && echo yes),yes)
GPU_PIPELINE := $(B)/gpu/test_cuda_pipeline
endif
GPU_TEST_BIN := $(patsubst tests/cuda/%,$(B)/gpu/%,$(basename $(GPU_TEST_SRC)))
PLAIN_SRC := $(filter-out %/onednn.c %/host_product.c,$(wildcard backend/*.c backend/cpu/*.c \
  backend/cuda/*.c)) tests/cuda/bare/no_onednn.c
# what reads and writes no files of pictures
PIPELINE_SRC := $(if $(GPU_PIPELINE),$(shell grep -LE 'include <(png|libav|libsw|libexif|stb)' \
  weights/*.c attention/*.c prompts/*.c dit/*.c codecs/*.c sampler/*.c))
GPU_CXX = -std=c++17 $(CPPFLAGS) -DCHECK_MIN
GPU_HELP := tests/testing_main tests/cuda/bare/check tests/cuda/emu/emulated
GPU_LINK = $(CXX) -fopenmp -Wl,--gc-sections,-rpath,'$$ORIGIN/lib'
$(B)/gpu/tests/%.o: tests/%.cu $(B)/cuda/flags
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	@$(NVCC) $(GPU_CXX) -O2 $(CUDA_ARCH) -MMD -MP -c -o $@ $<
$(B)/gpu/tests/%.o: tests/%.cpp $(B)/cuda/flags
	@mkdir -p $(@D)
	@echo "  CXX $< (for a GPU)"
	@$(CXX) $(GPU_CXX) -O2 -Wall -Wextra -isystem $(CUDA_HOME)/include -MMD -MP -c -o $@ $<
$(B)/gpu/tests/%.o: tests/%.c $(B)/flags $(B)/cuda/flags
	@mkdir -p $(@D)
	@echo "  CC $< (for a GPU)"
	@$(CC) -Itests/cuda/bare $(CPPFLAGS) $(ALL_CFLAGS) -ffunction-sections \
	  -isystem $(CUDA_HOME)/include -MMD -MP -c -o $@ $<
$(B)/gpu/libplain.a: $(PLAIN_SRC:%.c=$(B)/%.o) $(CUDA_OBJ)
	@rm -f $@
	@ar rcs $@ $^
$(B)/gpu/%: $(B)/gpu/tests/cuda/%.o $(GPU_HELP:%=$(B)/gpu/%.o) $(B)/gpu/libplain.a
	@echo "  LD $@"
	@$(GPU_LINK) -o $@ $^ $(CUDA_LIBS) -lm -pthread
$(B)/gpu/test_cuda_pipeline: $(B)/gpu/tests/cuda/test_cuda_pipeline.o \
    $(GPU_HELP:%=$(B)/gpu/%.o) $(B)/gpu/tests/testing.o $(B)/gpu/tests/far.o \
    $(B)/gpu/tests/sampler/pipeline.o $(B)/gpu/tests/cuda/bare/no_pictures.o \
    $(PIPELINE_SRC:%.c=$(B)/%.o) $(B)/gpu/libplain.a
	@echo "  LD $@"
	@$(GPU_LINK) -o $@ $^ $(shell pkg-config --libs $(GPU_PKGS)) $(CUDA_LIBS) -lm -pthread
	@rm -rf $(@D)/lib && mkdir -p $(@D)/lib
	@ldd $@ | sed -n 's/.*=> \(\/[^ ]*lib\(cjson\|utf8proc\|pcre2\)[^ ]*\) .*/\1/p' | \
	  while read -r l; do cp -L "$$l" $(@D)/lib/; done
-include $(PLAIN_SRC:%.c=$(B)/%.d) $(wildcard $(addprefix $(B)/gpu/tests/,*.d */*.d */*/*.d))
# What it reaches, and whether that is enough.
BENCH_SRC := $(wildcard tests/cuda/bench/*.c)
$(B)/gpu/bench_cuda: $(BENCH_SRC:%.c=$(B)/gpu/%.o) $(B)/attention/policy.o \
    $(B)/attention/grid.o $(B)/gpu/libplain.a
	@echo "  LD $@"
	@$(GPU_LINK) -o $@ $^ $(CUDA_LIBS) -lm -pthread
.PHONY: bench-cuda build-bench-cuda
build-bench-cuda: $(B)/gpu/bench_cuda
bench-cuda: build-bench-cuda ## what the CUDA device reaches on this machine's GPU; needs nvcc
	@sh tests/cuda/bench/bench.sh $(B)/gpu
.PHONY: check-cuda build-check-cuda
build-check-cuda: $(GPU_TEST_BIN) $(GPU_PIPELINE)
check-cuda: build-check-cuda ## every test of the CUDA device on this machine's GPU; needs nvcc
	@CUDA_HOME=$(CUDA_HOME) sh tests/cuda/on_gpu.sh $(B)/gpu $(notdir $(GPU_TEST_BIN))

.PHONY: test
test: tessera $(TEST_BIN)
	$(if $(HAS_EMU),,@echo "skip tests/cuda: it needs g++ for x86-64")
	@sh tests/run.sh $(TEST_BIN)
.PHONY: check-emu
check-emu: $(CUDA_TEST_BIN) ## the tests of CUDA kernels on the emulated device, with the long ones
	@LONG=1 sh tests/run.sh $(CUDA_TEST_BIN)
	$(PLANT) $(B)
# Faults planted in the sources of kernels by sed, each of which a test must find.
PLANT = @EMU_KERNEL='$(EMU_KERNEL)' EMU_LINK='$(CXX) -fopenmp $(CFLAGS) $(LDFLAGS)' \
  EMU_LIBS='$(B)/emu/libcuda.a $(TEST_LIB:%.c=$(B)/%.o) $(B)/libtessera.a $(LDLIBS) $(CHECK_LIBS)' \
  sh tests/cuda/planted.sh

.PHONY: deps
deps: ## install the Debian packages that building needs
	@tools/install-deps.sh build
.PHONY: deps-check deps-lint
deps-check:
	@tools/install-deps.sh check
deps-lint: ## install what format-check, lint, coverage and tsan need
	@tools/install-deps.sh lint

# The packages come first: what make read before they were there (pkg-config) is read again by the
# inner make.
.PHONY: demo
demo: deps ## install what is missing, build, render a clip and a picture into out/
	$(AGAIN) tessera
	@tools/demo.sh

.PHONY: check
check: deps-check ## install what is missing, build, run every test; format and lint with the tools
	$(AGAIN) layers format-check lint cuda-check-build
	$(AGAIN) test

# Without Chromium the same tests say "skip" in make check.
.PHONY: check-pages
check-pages: ## install Chromium, look at the pages of bench and batch at three widths
	@tools/install-deps.sh pages
	$(AGAIN) tessera $(B)/tests/cli/test_pages
	@sh tests/run.sh $(B)/tests/cli/test_pages

# ---- what a text is checked for ----
.PHONY: layers
layers: ## includes point downward only, static functions have names of their own
	@tools/layers.sh
	@tools/static-names.sh

.PHONY: format-check
format-check: ## clang-format 14 has nothing to change, no line is longer than 100 columns
	@tools/format-check.sh

# clang-tidy leaves a stamp for each file, whose object says which headers it depends on. What calls
# NVIDIA's libraries is looked at where their headers are.
LINT_LIBRARIES := $(if $(filter 1,$(CUDA)),,$(if \
  $(and $(wildcard $(CUDA_HOME)/include/cublasLt.h),$(wildcard $(CUDA_HOME)/include/cudnn.h)), \
  $(CUDA_LIBRARIES)))
LINT_SRC := $(LIB_SRC) $(CLI_SRC) $(if $(filter 1,$(CUDA)),,\
  $(sort $(filter-out $(CUDA_LIBRARIES),$(wildcard backend/cuda/*.c))) $(LINT_LIBRARIES))
TIDY := $(shell tools/find-clang.sh clang-tidy)
.PHONY: lint
lint: $(if $(TIDY),$(LINT_SRC:%=$(B)/lint/%)) ## clang-tidy 14, cppcheck, codespell: those there are
	@$(if $(TIDY),,echo "lint: clang-tidy 14 is not installed: not run")
	@tools/lint.sh $(B) $(LINT_SRC)
ifneq ($(CUDA),1)
$(LINT_LIBRARIES:%=$(B)/lint/%): ISA := -isystem $(CUDA_HOME)/include
$(LINT_LIBRARIES:%=$(B)/lint/%): $(B)/lint/%.c: %.c %.h .clang-tidy
	$(RUN_TIDY)
# the others against the emulator's headers
$(B)/lint/backend/cuda/%.c: ISA := -Itests/cuda/emu
$(B)/lint/backend/cuda/%.c: backend/cuda/%.c $(B)/emu/backend/cuda/%.o .clang-tidy
	$(RUN_TIDY)
endif
$(B)/lint/%.c: %.c $(B)/%.o .clang-tidy
	$(RUN_TIDY)
define RUN_TIDY
	@mkdir -p $(@D)
	@echo "  TIDY $<"
	@$(TIDY) --quiet --warnings-as-errors='*' $< -- -std=gnu11 -fopenmp $(ISA) $(CPPFLAGS) \
	  $(PLACE) $(PKG_CFLAGS) 2>$@.err || { cat $@.err; exit 1; }
	@rm $@.err
	@touch $@
endef

# ---- other builds of the same tests ----
SANITIZE := -fsanitize=address,undefined
ASAN := B=build/asan LDFLAGS="$(SANITIZE)" \
  CFLAGS="-O1 -g $(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
LEAKS := LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan.supp
.PHONY: asan
asan: deps-check ## every test under AddressSanitizer and UndefinedBehaviorSanitizer
	$(AGAIN) $(ASAN) build/asan/tessera test-asan
.PHONY: test-asan
test-asan: $(TEST_BIN)
	@ln -sfn ../../../weights/default $(B)/weights/ # the program looks for it beside itself
	@ASAN_OPTIONS=detect_leaks=1 $(LEAKS) TESSERA=build/asan/tessera sh tests/run.sh $(TEST_BIN)

INPUTS ?= 100000
.PHONY: fuzz
fuzz: deps-check ## feed every parser INPUTS damaged files, sanitized; TARGET=name, FIRST=n
	$(AGAIN) $(ASAN) build/asan/tests/fuzz/test_fuzz
	@TMPDIR=/dev/shm ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:handle_abort=0 \
	  $(LEAKS) build/asan/tests/fuzz/test_fuzz $(INPUTS) $(TARGET) $(FIRST)

# gcc's OpenMP is unknown to ThreadSanitizer; LLVM's tells it of barriers through Archer.
TSAN_TESTS := tests/backend/test_attention
.PHONY: tsan
tsan: ## the attention's hand-over between threads under ThreadSanitizer; needs clang, libomp
	@tools/tsan.sh build/tsan $(TSAN_TESTS)

.PHONY: coverage
coverage: deps-check ## every test, and which lines it ran: build/coverage/index.html; needs gcovr
	$(AGAIN) B=build/coverage CFLAGS="-O1 -g --coverage" LDFLAGS="--coverage" test-coverage
	@gcovr -r . build/coverage -e 'tests/.*' --exclude-unreachable-branches -j $$(nproc) \
	  --html-details build/coverage/index.html --print-summary
.PHONY: test-coverage
test-coverage: $(B)/tessera $(TEST_BIN)
	@ln -sfn ../../../weights/default $(B)/weights/
	@TESSERA=$(B)/tessera sh tests/run.sh $(TEST_BIN)

.PHONY: bench-check
bench-check: tessera ## ratios of attention kernels against tools/bench_ratios.json; Python
	@python3 tools/bench_check.py

# ---- what others get ----
# The loader's cache learns of the library where that is ours to do: as root, of this machine.
LOADER = @if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ]; then \
  PATH="$$PATH:/usr/sbin:/sbin" ldconfig || echo "install: ldconfig failed"; fi
# shells, and where below share/ they look
COMPLETION := bash:bash-completion/completions/tessera zsh:zsh/site-functions/_tessera \
  fish:fish/vendor_completions.d/tessera.fish
.PHONY: install
install: tessera $(B)/$(SONAME) ## program, libraries, headers, model, manual (PREFIX, DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig \
	  $(DESTDIR)$(PREFIX)/include/tessera $(DESTDIR)$(PREFIX)/share/man/man1 \
	  $(DESTDIR)$(PREFIX)/share/tessera $(DESTDIR)$(PREFIX)/share/doc/tessera
	for s in $(COMPLETION); do install -d $(DESTDIR)$(PREFIX)/share/$$(dirname $${s#*:}) && \
	  ./tessera completion $${s%%:*} >$(DESTDIR)$(PREFIX)/share/$${s#*:} || exit 1; done
	install -m 755 tessera $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/libtessera.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(B)/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libtessera.so.$(VERSION)
	ln -sf libtessera.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libtessera.so
	for h in $(HEADERS); do sed 's|^#include "[a-z]*/|#include "|' $$h \
	  >$(DESTDIR)$(PREFIX)/include/tessera/$${h##*/} || exit 1; done
	install -m 644 docs/tessera.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 docs/formats.md $(DESTDIR)$(PREFIX)/share/doc/tessera/
	cp -r weights/default $(DESTDIR)$(PREFIX)/share/tessera/
	for p in tessera tessera-static; do sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@PKGS@|$(PKGS)|' \
	  -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(OWN_LIBS)|' tools/$$p.pc.in \
	  >$(DESTDIR)$(PREFIX)/lib/pkgconfig/$$p.pc || exit 1; done
	$(LOADER)
.PHONY: uninstall
uninstall: ## remove what install put in place
	rm -rf $(DESTDIR)$(PREFIX)/bin/tessera $(DESTDIR)$(PREFIX)/include/tessera \
	  $(DESTDIR)$(PREFIX)/lib/libtessera.a $(DESTDIR)$(PREFIX)/lib/libtessera.so \
	  $(DESTDIR)$(PREFIX)/lib/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libtessera.so.$(VERSION) \
	  $(DESTDIR)$(PREFIX)/lib/pkgconfig/tessera.pc \
	  $(DESTDIR)$(PREFIX)/lib/pkgconfig/tessera-static.pc \
	  $(DESTDIR)$(PREFIX)/share/man/man1/tessera.1 $(DESTDIR)$(PREFIX)/share/tessera \
	  $(DESTDIR)$(PREFIX)/share/doc/tessera
	for s in $(COMPLETION); do rm -f $(DESTDIR)$(PREFIX)/share/$${s#*:}; done
	$(LOADER)

.PHONY: check-installed
check-installed: deps-check ## install into a new folder, build and run programs on what is there
	$(AGAIN) $(B)/tests/sampler/test_install
	@sh tests/run.sh $(B)/tests/sampler/test_install

.PHONY: dist
dist: ## build/tessera-VERSION.tar.gz: the last commit's files
	@mkdir -p build
	git archive --prefix=tessera-$(VERSION)/ -o build/tessera-$(VERSION).tar.gz HEAD

.PHONY: clean
clean: ## remove what was built
	rm -rf build tessera
.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) |\
	  expand -t 24
