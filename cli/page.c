/* HTML that needs nothing but itself: escaped text, files within the page (base64, RFC 4648). */
#include "cli/page.h"

#include "backend/base64.h"

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
    uint8_t bytes[3 * 1024];
    char text[4 * 1024 + 1];
    size_t n;
    FILE *in = fopen(path, "rbe");
    if (!in) return;
    fprintf(f, "data:%s;base64,", kind);
    while ((n = fread(bytes, 1, sizeof bytes, in)) > 0) {
        size_t digits = ts_base64_encode(bytes, n, text);
        fwrite(text, 1, digits, f);
    }
    fclose(in);
}
