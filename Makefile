# make          build ./tessera
# make demo     install what is missing, build, render a clip and a picture into out/
# make check    install what is missing, build, run every test
# make help     all targets
CC ?= gcc
PREFIX ?= /usr/local
VERSION := 0.1.0
B := build
PKGS := libpng libavformat libavcodec libswscale libavutil libcjson libutf8proc libexif
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror=implicit-function-declaration
CFLAGS ?= -O2 -g
CPPFLAGS += -I. -Ibackend -Isampler -D_GNU_SOURCE -DTS_VERSION='"$(VERSION)"' -DTS_DEFAULT_INSTALLED='"$(PREFIX)/share/tessera/default"'
ALL_CFLAGS = -std=gnu11 $(WARN) -fopenmp -fno-math-errno $(CFLAGS) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -ldnnl -lm -fopenmp -pthread

LIB_SRC := $(sort $(wildcard backend/*.c backend/cpu/*.c weights/*.c attention/*.c prompts/*.c dit/*.c codecs/*.c sampler/*.c))
CLI_SRC := $(sort $(wildcard cli/*.c))
TEST_SRC := $(sort $(wildcard tests/*/test_*.c))
TEST_LIB := $(sort $(filter-out $(TEST_SRC),$(wildcard tests/*.c tests/*/*.c)))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)

.PHONY: all
all: tessera
tessera: $(CLI_OBJ) $(B)/libtessera.a
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(CLI_OBJ) $(B)/libtessera.a $(LDLIBS)
$(B)/libtessera.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^
# One file an instruction set, each with its own flags; nothing else is compiled for more than the baseline.
$(B)/%_avx2.o: ISA := -mavx2 -mfma -mf16c
$(B)/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c
$(B)/%_avx512_bf16.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx2 -mfma -mf16c
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(ISA) -MMD -MP -c -o $@ $<
$(B)/tests/%: $(B)/tests/%.o $(TEST_LIB:%.c=$(B)/%.o) $(B)/libtessera.a
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(shell pkg-config --libs check 2>/dev/null)
-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_SRC:%.c=$(B)/%.d)

.PHONY: test
test: tessera $(TEST_BIN)
	@sh tests/run.sh $(TEST_BIN)
