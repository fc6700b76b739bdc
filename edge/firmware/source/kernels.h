/* Operators that bakenn does not have, bit for bit as TFLite Micro computes them. */
#ifndef SEEPAGE_KERNELS_H
#define SEEPAGE_KERNELS_H

#include <stdint.h>

/* A real factor as multiplier / 2^31 * 2^shift. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
} factor;

/* The mean over the middle one of three dimensions. The factor holds 1 / middle as well as both scales; input_zero is
   the input's zero point times middle. */
void seepage_mean(const int8_t *input, int8_t *output, uint32_t outer, uint32_t middle, uint32_t inner,
                  int32_t input_zero, factor scale, int32_t output_zero);

/* Softmax over the inner one of two dimensions, with a scale of 1/256 and a zero point of -128. */
void seepage_softmax(const int8_t *input, int8_t *output, uint32_t outer, uint32_t inner, factor beta,
                     int32_t smallest);

/* The same numbers in another scale, within [low, high]. */
void seepage_requantise(const int8_t *input, int8_t *output, uint32_t count, int32_t input_zero, factor scale,
                        int32_t output_zero, int32_t low, int32_t high);

#endif
