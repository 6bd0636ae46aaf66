/* base64, RFC 4648 section 4. */
#ifndef TS_BASE64_H
#define TS_BASE64_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits and padding of n bytes, and a NUL: out holds (n + 2) / 3 * 4 + 1. Returns the digits. */
size_t ts_base64_encode(const uint8_t *from, size_t n, char *out);
/* The bytes of a text with or without line breaks, up to its padding or end; out holds
 * strlen(text) / 4 * 3 + 3. false: another character is in it. */
bool ts_base64_decode(const char *text, uint8_t *out, size_t *n);
#endif
