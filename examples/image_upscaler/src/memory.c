/* Memory by moving one mark upwards; nothing is given back, because a module lives for one job. */
#include "dux.h"

#define PAGE 65536u

extern u8 __heap_base;
static u32 mark;

static int grow_to(u32 end) {
  u32 have = (u32)__builtin_wasm_memory_size(0) * PAGE;
  if (end <= have) return 1;
  u32 pages = (end - have + PAGE - 1) / PAGE;
  return (i32)__builtin_wasm_memory_grow(0, pages) >= 0;
}

u8 *dux_alloc(u32 size) {
  if (!mark) mark = ((u32)&__heap_base + 15u) & ~15u;
  if (size > 0x7fff0000u - mark) return 0;
  u32 start = mark, end = (start + size + 15u) & ~15u;
  if (!grow_to(end)) return 0;
  mark = end;
  return (u8 *)start;
}
