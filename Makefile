# make          build ./tessera
# make demo     install what is missing, build, render a clip and a picture into out/
# make check    install what is missing, build, run every test
# make help     every target
CC ?= gcc
PREFIX ?= /usr/local
VERSION := 0.1.0
B := build
PKGS := libpng libavformat libavcodec libswscale libavutil libcjson libutf8proc libpcre2-8 libexif
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror=implicit-function-declaration
CFLAGS ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -DTS_VERSION='"$(VERSION)"' -DTS_DEFAULT_INSTALLED='"$(PREFIX)/share/tessera/default"'
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
CHECK_LIBS := $(shell pkg-config --libs check 2>/dev/null)
ALL_CFLAGS = -std=gnu11 $(WARN) -fopenmp -fno-math-errno $(CFLAGS) $(PKG_CFLAGS)
LDLIBS = $(PKG_LIBS) -ldnnl -lm -fopenmp -pthread

LIB_SRC := $(sort $(wildcard backend/*.c backend/cpu/*.c weights/*.c attention/*.c prompts/*.c dit/*.c codecs/*.c sampler/*.c))
HIREDIS := $(shell pkg-config --exists hiredis 2>/dev/null && echo yes)
CLI_SRC := $(sort $(filter-out $(if $(HIREDIS),cli/batch/queue_none.c,cli/batch/queue_redis.c),$(wildcard cli/*.c cli/*/*.c)))
CLI_LIBS := $(if $(HIREDIS),$(shell pkg-config --libs hiredis))
TEST_SRC := $(sort $(wildcard tests/*/test_*.c))
TEST_LIB := $(sort $(filter-out $(TEST_SRC),$(wildcard tests/*.c tests/*/*.c)))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)

.SECONDARY:
.PHONY: all
all: tessera ## build ./tessera
tessera: $(B)/tessera
	@ln -f $< $@
$(B)/tessera: $(CLI_OBJ) $(B)/libtessera.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(CLI_OBJ) $(B)/libtessera.a $(LDLIBS) $(CLI_LIBS)
$(B)/libtessera.a: $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^
# One kernel file an instruction set, each with its own flags; nothing else, and no test of them, is compiled for more than the baseline.
# SIMDe's vectors pass through functions compiled for the baseline, within one program: their ABI is nobody else's concern.
$(B)/tests/backend/test_attention_simde%.o: ISA := -Wno-psabi
$(B)/backend/cpu/%_avx2.o: ISA := -mavx2 -mfma -mf16c
$(B)/backend/cpu/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c
$(B)/backend/cpu/%_avx512_bf16.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx2 -mfma -mf16c
$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(ISA) -MMD -MP -c -o $@ $<
$(B)/tests/%: $(B)/tests/%.o $(TEST_LIB:%.c=$(B)/%.o) $(B)/libtessera.a
	@echo "  LD $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(CHECK_LIBS)
-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_SRC:%.c=$(B)/%.d) $(TEST_LIB:%.c=$(B)/%.d)

.PHONY: test
test: tessera $(TEST_BIN)
	@sh tests/run.sh $(TEST_BIN)

.PHONY: deps
deps: ## install the Debian packages that building needs
	@tools/install-deps.sh build
.PHONY: deps-check
deps-check:
	@tools/install-deps.sh check

# The packages come first: what make read before they were there (pkg-config) is read again by the inner make.
.PHONY: demo
demo: deps ## install what is missing, build, render a clip and a picture into out/
	@$(MAKE) --no-print-directory -j$$(nproc) tessera
	@tools/demo.sh

.PHONY: check
check: deps-check ## install what is missing, build, run every test
	@$(MAKE) --no-print-directory -j$$(nproc) layers test

.PHONY: layers
layers: ## includes point downward only
	@tools/layers.sh

.PHONY: asan
asan: deps-check ## every test under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory -j$$(nproc) B=build/asan CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" LDFLAGS="-fsanitize=address,undefined" build/asan/tessera test-asan
.PHONY: test-asan
test-asan: $(TEST_BIN)
	@ln -sfn ../../../weights/default build/asan/weights/ # the program looks for its model beside itself
	@ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan.supp TESSERA=build/asan/tessera sh tests/run.sh $(TEST_BIN)

INPUTS ?= 100000
.PHONY: fuzz
fuzz: deps-check ## feed every parser with INPUTS damaged files (100000) under the sanitizers; TARGET=name: one of them, FIRST=n: from that on
	@$(MAKE) --no-print-directory -j$$(nproc) B=build/asan CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" LDFLAGS="-fsanitize=address,undefined" build/asan/tests/fuzz/test_fuzz
	@TMPDIR=/dev/shm ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:handle_abort=0 LSAN_OPTIONS=suppressions=tests/lsan.supp build/asan/tests/fuzz/test_fuzz $(INPUTS) $(TARGET) $(FIRST)

.PHONY: install
install: tessera ## install binary, library, headers, default model, man page, pkg-config file (PREFIX, DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/tessera $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/tessera
	install -m 755 tessera $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/libtessera.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 sampler/tessera.h backend/base.h $(DESTDIR)$(PREFIX)/include/tessera/
	install -m 644 docs/tessera.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	cp -r weights/default $(DESTDIR)$(PREFIX)/share/tessera/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@PKGS@|$(PKGS)|' tools/tessera.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/tessera.pc
.PHONY: uninstall
uninstall: ## remove what install put in place
	rm -rf $(DESTDIR)$(PREFIX)/bin/tessera $(DESTDIR)$(PREFIX)/lib/libtessera.a $(DESTDIR)$(PREFIX)/include/tessera $(DESTDIR)$(PREFIX)/share/man/man1/tessera.1 \
	  $(DESTDIR)$(PREFIX)/share/tessera $(DESTDIR)$(PREFIX)/lib/pkgconfig/tessera.pc

.PHONY: clean
clean: ## remove what was built
	rm -rf build tessera
.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
