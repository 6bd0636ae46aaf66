/* stb_image with the formats that are read here, private to the file that includes it; its code
 * does not care for the warnings of this one. */
#ifndef TS_PICTURE_STB_H
#define TS_PICTURE_STB_H
/* to the end of the file: there gcc misses what is declared and left out */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS (1 << 16)
#define STB_IMAGE_STATIC
#ifndef __clang_analyzer__
#define STB_IMAGE_IMPLEMENTATION
#endif
#include <string.h>
/* it copies nothing to nowhere, which UBSan minds */
#define memcpy(to, from, n) ((n) ? memcpy(to, from, n) : (to))
#include <stb/stb_image.h>
#undef memcpy
#pragma GCC diagnostic pop
#endif
