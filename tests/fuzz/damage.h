/* Inputs for readers of files: good files, damaged by chance, but the same each time. */
#ifndef TESTS_DAMAGE_H
#define TESTS_DAMAGE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DAMAGE_ROOM = 1 << 16 }; /* bytes of the longest input */

typedef struct { /* a good file, of DAMAGE_ROOM bytes at the most */
    uint8_t *b;
    size_t n;
} damage_seed;

/* What files are made of, for damage_make: ended by NULL. */
extern const char *const damage_json_words[];
extern const char *const damage_row_words[];
extern const char *const damage_policy_words[];
extern const char *const damage_text_words[];
extern const char *const damage_bytes_words[];
extern const char *const damage_fp8_words[];
extern const char *const damage_lora_words[];
extern const char *const damage_gguf_words[];
extern const char *const damage_picture_words[];
extern const char *const damage_output_words[];

extern uint8_t damage_input[DAMAGE_ROOM]; /* the input that was made last */
extern size_t damage_input_n;
/* Input i of a reader, whose number is `of`, from 1 on, made of one of its good files; input 0 is
 * one of these as it is. Whether a length in the input is to agree with it again, where it has
 * one: of most. */
bool damage_make(const damage_seed *corpus, int seeds, const char *const *words, uint64_t of,
                 uint64_t i);
/* The length of a safetensors header agrees with where its JSON ends, or nothing behind it is ever
 * reached. */
void damage_mend_length(void);
#endif
