/* The service: one picture in, the same picture larger out. Argument: `scale=2` … `scale=8` (2 when not given). */
#include "lanczos.h"

enum { BAD_ARGUMENT = 1, NOT_A_PICTURE = 2, TOO_LARGE = 3 };

static int same(const u8 *text, const char *word, u32 length) {
  for (u32 i = 0; i < length; i++)
    if (text[i] != (u8)word[i]) return 0;
  return 1;
}

/* The factor asked for; 0 if the argument is none that we know. */
static u32 read_factor(const u8 *args, u32 length) {
  if (!length) return FACTOR_MIN;
  if (length != 7 || !same(args, "scale=", 6)) return 0;
  u32 factor = (u32)args[6] - '0';
  return factor >= FACTOR_MIN && factor <= FACTOR_MAX ? factor : 0;
}

/* Colours times their opacity, so that the colour of transparent pixels cannot bleed into their neighbours. */
static void premultiply(picture *p) {
  for (u8 *px = p->pixels, *end = px + p->width * p->height * 4; px < end; px += 4)
    for (u32 c = 0; c < 3; c++) {
      u32 t = px[c] * px[3] + 128u;
      px[c] = (u8)(((t >> 8) + t) >> 8);
    }
}

static void unpremultiply(picture *p) {
  for (u8 *px = p->pixels, *end = px + p->width * p->height * 4; px < end; px += 4)
    for (u32 c = 0; c < 3 && px[3] && px[3] != 255; c++) {
      u32 value = 255u * px[c] / px[3];
      px[c] = value > 255 ? 255 : (u8)value;
    }
}

i64 dux_run(const u8 *args, u32 args_len, const u8 *input, u32 input_len) {
  picture small, large;
  u32 factor = read_factor(args, args_len);
  if (!factor) return -BAD_ARGUMENT;
  if (!picture_read(input, input_len, &small)) return -NOT_A_PICTURE;
  if (small.channels == 4) premultiply(&small);
  if (!lanczos_enlarge(&small, factor, &large)) return -TOO_LARGE;
  if (small.channels == 4) unpremultiply(&large);
  dux_progress(1000);
  u8 *start = large.pixels - PICTURE_HEADER;
  return (i64)(u32)start << 32 | (PICTURE_HEADER + large.width * large.height * large.channels);
}
