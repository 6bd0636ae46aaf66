/* HTML that needs nothing but itself: escaped text, files within the page (base64, RFC 4648). */
#include "cli/page.h"

void ts_page_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        const char *safe = *s == '<'   ? "&lt;"
                           : *s == '>' ? "&gt;"
                           : *s == '&' ? "&amp;"
                           : *s == '"' ? "&quot;"
                                       : NULL;
        if (safe)
            fputs(safe, f);
        else
            fputc(*s, f);
    }
}

void ts_page_data(FILE *f, const char *path, const char *kind)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char b[3];
    size_t n;
    FILE *in = fopen(path, "rbe");
    if (!in) return;
    fprintf(f, "data:%s;base64,", kind);
    while ((n = fread(b, 1, 3, in)) > 0) {
        unsigned long w = (unsigned long)b[0] << 16 | (n > 1 ? (unsigned long)b[1] << 8 : 0) |
                          (n > 2 ? b[2] : 0);
        for (size_t i = 0; i < 4; i++) fputc(i <= n ? digits[w >> (18 - 6 * i) & 63] : '=', f);
    }
    fclose(in);
}
