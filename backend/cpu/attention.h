/* Attention kernels of the CPU, shared by the files attention*.c. */
#ifndef TS_CPU_ATTENTION_H
#define TS_CPU_ATTENTION_H
#include "backend/cpu/cpu.h"
void ts_attention_ref(const ts_attention *);
#endif
