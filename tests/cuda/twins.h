/* Tensors that the host and the device have alike, with bytes around and between their rows that
 * must not change: an operation of the CPU's plain C is done to one, a kernel to the other. */
#ifndef TWINS_H
#define TWINS_H
#include "tests/cuda/device.h"
extern "C" {
#include "backend/cpu/ref.h"
}
#include <functional>
#include <memory>

struct twin {
    ts_tensor host, device;
    std::shared_ptr<std::vector<unsigned char>> bytes; /* of the host, all; copies share them */
    unsigned char *at;                                 /* of the device */
    size_t first;                                      /* of them the tensor's */
    float get(long m, long c) const
    {
        return ts_load(bytes->data() + first, host.type, m * host.ld + c);
    }
    void set(long m, long c, float x)
    {
        ts_store(bytes->data() + first, host.type, m * host.ld + c, x);
    }
    /* once its numbers are set, and before a kernel: they go to the device */
    void send(void)
    {
        at = test_give(*bytes);
        host.p.at = (uint64_t)(uintptr_t)(bytes->data() + first);
        device = host;
        device.p.at = (uint64_t)(uintptr_t)(at + first);
    }
};
enum { TWIN_GUARD = 64, TWIN_PATTERN = 0xA5 };

/* [rows, C], ld apart, `off` numbers beyond an address that is a multiple of 64 */
static inline twin twin_room(ts_dtype type, long rows, long C, long ld = 0, int off = 0)
{
    size_t size = ts_dtype_size(type);
    twin t = {};
    if (!ld) ld = C;
    t.first = TWIN_GUARD + (size_t)off * size;
    t.bytes = std::make_shared<std::vector<unsigned char>>(
        t.first + (size_t)(rows ? (rows - 1) * ld + C : 0) * size + TWIN_GUARD, TWIN_PATTERN);
    t.host = test_tensor(NULL, type, {rows, C}, ld);
    return t;
}
static inline twin twin_of(ts_dtype type, long rows, long C, long ld, int off,
                           std::function<float(long, long)> number)
{
    twin t = twin_room(type, rows, C, ld, off);
    for (long m = 0; m < rows; m++)
        for (long c = 0; c < C; c++) t.set(m, c, number(m, c));
    t.send();
    return t;
}
static inline twin twin_random(ts_dtype type, long rows, long C, long ld = 0, int off = 0,
                               float spread = 1, float shift = 0)
{
    return twin_of(type, rows, C, ld, off,
                   [=](long, long) { return test_normal() * spread + shift; });
}
static inline twin twin_copy(const twin &t)
{
    twin u = t;
    u.bytes = std::make_shared<std::vector<unsigned char>>(*t.bytes);
    u.send();
    return u;
}
/* the same memory in another shape */
static inline twin twin_shaped(twin t, std::vector<long> dim)
{
    t.host.nd = t.device.nd = (int)dim.size();
    for (size_t i = 0; i < dim.size(); i++) t.host.dim[i] = t.device.dim[i] = dim[i];
    return t;
}

/* what the device has, every byte */
static inline std::vector<unsigned char> twin_fetch(const twin &t)
{
    return test_fetch(t.at, t.bytes->size());
}

/* Fails where the device's number is further from the host's than `tolerance` of it says, or a byte
 * outside of the rows was written. Infinities are equal, NaN is any NaN. */
static inline void twin_check(const twin &t, const std::string &what,
                              std::function<double(long, long, double)> tolerance)
{
    std::vector<unsigned char> got = twin_fetch(t);
    const ts_tensor *h = &t.host;
    size_t size = ts_dtype_size(h->type);
    long C = h->dim[h->nd - 1], rows = ts_rows(*h);
    std::vector<bool> ours(got.size());
    for (long m = 0; m < rows; m++)
        for (long c = 0; c < C; c++) {
            double g = ts_load(got.data() + t.first, h->type, m * h->ld + c), w = t.get(m, c),
                   within = tolerance(m, c, w);
            bool fine = std::isnan(w)   ? std::isnan(g)
                        : std::isinf(w) ? g == w
                                        : std::fabs(g - w) <= within;
            ck_assert_msg(fine, "%s: [%ld, %ld] is %.9g, expected %.9g within %.2g", what.c_str(),
                          m, c, g, w, within);
            for (size_t i = 0; i < size; i++)
                ours[t.first + (size_t)(m * h->ld + c) * size + i] = true;
        }
    for (size_t i = 0; i < got.size(); i++)
        ck_assert_msg(ours[i] || got[i] == (*t.bytes)[i], "%s: byte %ld of %zu is written",
                      what.c_str(), (long)i - (long)t.first, got.size());
}
static inline double twin_exact(long, long, double) { return 0; }

/* Of results that are rounded to the type once: numbers that are closer than the tolerance can
 * still end one step apart. */
static inline double twin_step(ts_dtype type, double want)
{
    return type == TS_BF16  ? std::fabs(want) / 128 + 0x1p-133
           : type == TS_F16 ? std::fabs(want) / 1024 + 0x1p-24
                            : 0x1p-126;
}
#endif
