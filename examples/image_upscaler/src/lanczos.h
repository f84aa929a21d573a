/* Enlargement by a whole factor with Lanczos' kernel of three lobes, in whole numbers only. */
#ifndef LANCZOS_H
#define LANCZOS_H
#include "picture.h"

#define FACTOR_MIN 2u
#define FACTOR_MAX 8u

/* `out` = `in` enlarged `factor` times along both sides; 0 if the result is too large or memory ran out. */
int lanczos_enlarge(const picture *in, u32 factor, picture *out);

#endif
