/* stb_image with the formats that are read here; implemented in codecs/picture_stb.c. */
#ifndef TS_PICTURE_STB_H
#define TS_PICTURE_STB_H
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS (1 << 16)
#include <stb/stb_image.h>
#endif
