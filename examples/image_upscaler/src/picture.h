/* Pictures as raw bytes ("DUXP"): 16 bytes of header, then rows from the top, without padding.
 *
 *   0  'D' 'U' 'X' 'P'     4  version = 1     5  channels: 1 grey, 3 RGB, 4 RGBA     6  two zero bytes
 *   8  width, u32 little-endian              12  height, u32 little-endian
 */
#ifndef PICTURE_H
#define PICTURE_H
#include "dux.h"

#define PICTURE_HEADER 16u
#define SIDE_MAX 16384u            /* pixels along one side, before and after */
#define OUTPUT_MAX (256u << 20)    /* bytes of pixels in the output */

typedef struct {
  u32 width, height, channels;
  u8 *pixels;
} picture;

/* Read a header; 0 if the bytes are not a whole picture within the limits. */
int picture_read(const u8 *bytes, u32 length, picture *out);

/* Make room for a picture with its header; 0 if there is none. */
int picture_new(u32 width, u32 height, u32 channels, picture *out);

#endif
