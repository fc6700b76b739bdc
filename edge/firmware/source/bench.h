/* What the model's code and the bench that runs it know of each other. */
#ifndef SEEPAGE_BENCH_H
#define SEEPAGE_BENCH_H

#include <stdint.h>

/* One inference: MODEL_INPUT_BYTES in, MODEL_OUTPUT_BYTES out. */
void model_infer(const int8_t *input, int8_t *output);

#endif
