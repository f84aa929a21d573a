#include "picture.h"

static u32 read_u32(const u8 *p) { return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }

static void write_u32(u8 *p, u32 value) {
  for (int i = 0; i < 4; i++) p[i] = (u8)(value >> (8 * i));
}

static int header_fits(const u8 *p) {
  return p[0] == 'D' && p[1] == 'U' && p[2] == 'X' && p[3] == 'P' && p[4] == 1 && !p[6] && !p[7] &&
         (p[5] == 1 || p[5] == 3 || p[5] == 4);
}

int picture_read(const u8 *bytes, u32 length, picture *out) {
  if (length < PICTURE_HEADER || !header_fits(bytes)) return 0;
  out->channels = bytes[5];
  out->width = read_u32(bytes + 8);
  out->height = read_u32(bytes + 12);
  out->pixels = (u8 *)bytes + PICTURE_HEADER;
  if (!out->width || !out->height || out->width > SIDE_MAX || out->height > SIDE_MAX) return 0;
  return length - PICTURE_HEADER == out->width * out->height * out->channels;
}

int picture_new(u32 width, u32 height, u32 channels, picture *out) {
  if (width > SIDE_MAX || height > SIDE_MAX || width * height > OUTPUT_MAX / channels) return 0;
  u8 *bytes = dux_alloc(PICTURE_HEADER + width * height * channels);
  if (!bytes) return 0;
  const u8 head[8] = {'D', 'U', 'X', 'P', 1, (u8)channels, 0, 0};
  for (int i = 0; i < 8; i++) bytes[i] = head[i];
  write_u32(bytes + 8, width);
  write_u32(bytes + 12, height);
  *out = (picture){width, height, channels, bytes + PICTURE_HEADER};
  return 1;
}
