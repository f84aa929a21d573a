/* The two passes of a separable resampler: rows first, then columns, each rounded to eight bits.
 *
 * An output pixel's centre lies at (2x+1)/2f input pixels, an input pixel's at (2i+1)/2, so every distance is a whole
 * number of 1/2f: the kernel is needed at 6f points only, and kernel.h holds them as integers for each factor f.
 */
#include "lanczos.h"
#include "kernel.h"

#define TAPS 7
#define PRECISION 22 /* bits after the point of a tap's weight: 255 * 2^22 * (sum of |weights|) fits 32 bits */

typedef struct {
  u32 first, count;
  i32 weight[TAPS];
} taps;

static i32 magnitude(i32 n) { return n < 0 ? -n : n; }

static i32 divide_rounded(i64 a, i64 b) { return (i32)((a < 0 ? a - b / 2 : a + b / 2) / b); }

/* Which input pixels make output pixel `x`, and their weights, which add up to one also at the border. */
static void find_taps(u32 x, u32 factor, u32 size, taps *out) {
  const i32 *kernel = lanczos3[factor - FACTOR_MIN];
  i32 f = (i32)factor, centre = 2 * (i32)x + 1;
  i32 low = centre - 5 * f, first = low < 0 ? 0 : low / (2 * f);
  i32 last = (centre + 7 * f) / (2 * f);
  if (last > (i32)size) last = (i32)size;
  i32 raw[TAPS] = {0};
  i64 sum = 0;
  for (i32 i = first; i < last; i++) {
    i32 distance = magnitude(f * (2 * i + 1) - centre);
    raw[i - first] = distance < 6 * f ? kernel[distance] : 0;
    sum += raw[i - first];
  }
  out->first = (u32)first;
  out->count = (u32)(last - first);
  for (u32 i = 0; i < out->count; i++) out->weight[i] = divide_rounded((i64)raw[i] << PRECISION, sum);
}

static u8 to_byte(i32 sum) {
  i32 value = sum >> PRECISION;
  return value < 0 ? 0 : value > 255 ? 255 : (u8)value;
}

/* One output value: the weighted sum of values `step` bytes apart. */
static u8 blend(const u8 *from, u32 step, const taps *t) {
  i32 sum = 1 << (PRECISION - 1);
  for (u32 i = 0; i < t->count; i++) sum += from[i * step] * t->weight[i];
  return to_byte(sum);
}

static void widen_row(const u8 *row, u8 *out, const taps *table, u32 width, u32 channels) {
  for (u32 x = 0; x < width; x++)
    for (u32 c = 0; c < channels; c++)
      out[x * channels + c] = blend(row + table[x].first * channels + c, channels, &table[x]);
}

static void stack_row(const u8 *pixels, u8 *out, const taps *t, u32 bytes) {
  const u8 *top = pixels + t->first * bytes;
  for (u32 i = 0; i < bytes; i++) out[i] = blend(top + i, bytes, t);
}

static taps *make_table(u32 size, u32 factor) {
  taps *table = (taps *)dux_alloc(size * factor * sizeof(taps));
  for (u32 x = 0; table && x < size * factor; x++) find_taps(x, factor, size, &table[x]);
  return table;
}

int lanczos_enlarge(const picture *in, u32 factor, picture *out) {
  u32 channels = in->channels, row_in = in->width * channels, row_out = row_in * factor;
  if (!picture_new(in->width * factor, in->height * factor, channels, out)) return 0;
  taps *across = make_table(in->width, factor), *down = make_table(in->height, factor);
  u8 *wide = dux_alloc(row_out * in->height);
  if (!across || !down || !wide) return 0;
  for (u32 y = 0; y < in->height; y++) widen_row(in->pixels + y * row_in, wide + y * row_out, across, out->width, channels);
  dux_progress(250);
  for (u32 y = 0; y < out->height; y++) {
    stack_row(wide, out->pixels + y * row_out, &down[y], row_out);
    if (y % 64 == 0) dux_progress((i32)(250 + 750ull * y / out->height));
  }
  return 1;
}
