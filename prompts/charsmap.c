/* SentencePiece's precompiled character map: u32 size of the trie, the trie (Darts-clone double
 * array), replacement strings. Every step is checked: the file may be anything. */
#include "prompts/unigram.h"

#include <stdlib.h>
#include <string.h>

ts_status ts_charsmap_init(ts_err *err, const char *path, const void *blob, size_t size,
                           ts_charsmap *m)
{
    uint32_t trie;
    if (size < 4)
        return ts_fail(err, TS_EMODEL, "%s: precompiled character map of %zu bytes", path, size);
    memcpy(&trie, blob, 4);
    if (trie % 4 || trie < 4 || trie > size - 4)
        return ts_fail(err, TS_EMODEL,
                       "%s: precompiled character map of %zu bytes says its trie has %u", path,
                       size, trie);
    m->units = trie / 4;
    m->text_size = size - 4 - trie;
    m->unit = malloc(trie);
    m->text = malloc(m->text_size + 1);
    if (!m->unit || !m->text)
        return ts_fail(err, TS_EMEMORY, "%s: no memory for a character map", path);
    memcpy(m->unit, (const char *)blob + 4, trie);
    memcpy(m->text, (const char *)blob + 4 + trie, m->text_size);
    m->text[m->text_size] = 0;
    return TS_OK;
}

void ts_charsmap_free(ts_charsmap *m)
{
    free(m->unit);
    free(m->text);
    *m = (ts_charsmap){0};
}

static size_t unpack_offset(uint32_t u) { return (size_t)(u >> 10) << ((u & 0x200) >> 6); }

const char *ts_charsmap_find(const ts_charsmap *m, const char *s, size_t n, bool longest,
                             size_t *used)
{
    const char *found = NULL;
    if (!m->units) return NULL;
    size_t pos = unpack_offset(m->unit[0]);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        pos ^= c;
        if (!c || pos >= m->units) break;
        uint32_t u = m->unit[pos];
        if ((u & 0x800000FF) != c) break;
        pos ^= unpack_offset(u);
        if (!(u >> 8 & 1)) continue;
        if (pos >= m->units) break;
        size_t at = m->unit[pos] & 0x7FFFFFFF;
        if (at > m->text_size) break;
        found = m->text + at;
        *used = i + 1;
        if (!longest) break;
    }
    return found;
}
