/* Weights on a device that only keeps accounts: what is allocated, packed, copied ahead. */
#ifndef TEST_LEDGER_H
#define TEST_LEDGER_H
#include "tests/testing.h"
#include "weights/weights.h"

/* What goes ahead of the queue, as late as a device may do it: when it is waited for. */
typedef struct {
    const void *host;
    const ts_weight *to; /* NULL: an upload */
    uint8_t *at;
    size_t bytes;
} ahead_copy;
typedef struct {
    ts_device dev; /* first */
    ts_ops ops;
    long allocs, frees, packs, uploads;
    bool adopts;
    int refuse; /* this many operations from now one fails; 0: none */
    ahead_copy coming[64];
    long begun, arrived; /* copies ahead: coming[arrived .. begun) are still to be done */
    struct {
        uint8_t *p;
        size_t bytes;
    } block[64]; /* what is allocated */
} ledger;

typedef struct {
    ts_ctx ctx;
    ledger dev;
    ts_weights *ws;
    const ts_weight *w[16], *v[4];
} residency;
/* two matrices a group, 1 MiB each in f32; bytes of a packed group, of all vectors */
enum { GROUPS = 4, ROWS = 512, COLUMNS = 512, GROUP = 2048, VECTORS = 3 * 256 };

extern char *residency_dir; /* of the model */
void residency_model(void); /* makes the folder and the model in it */
/* adopts: the device can use bytes of the host in place */
void residency_open(residency *, bool adopts);
void residency_close(residency *); /* all that was allocated is freed */
/* What a counting run leaves behind, of a matrix and of all. */
void residency_want(const ts_weight *, ts_dtype, int layout, size_t bytes);
void residency_want_all(residency *);
/* Matrix i is resident and its bytes are all its own; it is not resident. */
void residency_there(const residency *, int i);
void residency_away(const residency *, int i);
long residency_kib(void);    /* of the model file's pages that this process has mapped in */
bool residency_mapped(void); /* is the file mapped? */
#endif
