/* Fixed-point arithmetic of gemmlowp (github.com/google/gemmlowp, fixedpoint/fixedpoint.h): products keep their upper
 * half, rounded, and are then shifted to the right, rounded once more. */
#include "kernels.h"

static int32_t clamp(int64_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : (int32_t)x;
}

/* a * b / 2^31, halves upwards. */
static int32_t product(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN)
        return INT32_MAX;
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^exponent, halves away from zero. */
static int32_t shifted_right(int32_t x, int32_t exponent)
{
    const int32_t mask = (int32_t)((1u << exponent) - 1u);
    const int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> exponent) + ((x & mask) > threshold);
}

static int32_t scaled(int32_t x, factor by)
{
    const int32_t left = by.shift > 0 ? by.shift : 0;
    return shifted_right(product((int32_t)((uint32_t)x << left), by.multiplier), left - by.shift);
}

void seepage_mean(const int8_t *input, int8_t *output, uint32_t outer, uint32_t middle, uint32_t inner,
                  int32_t input_zero, factor scale, int32_t output_zero)
{
    for (uint32_t i = 0; i < outer; i++, input += middle * inner)
        for (uint32_t k = 0; k < inner; k++) {
            int32_t sum = -input_zero;
            for (uint32_t j = 0; j < middle; j++)
                sum += input[j * inner + k];
            *output++ = (int8_t)clamp((int64_t)scaled(sum, scale) + output_zero, -128, 127);
        }
}

void seepage_requantise(const int8_t *input, int8_t *output, uint32_t count, int32_t input_zero, factor scale,
                        int32_t output_zero, int32_t low, int32_t high)
{
    for (uint32_t i = 0; i < count; i++)
        output[i] = (int8_t)clamp((int64_t)scaled(input[i] - input_zero, scale) + output_zero, low, high);
}

/* exp(x) for x <= 0 with 26 fraction bits, as a fraction of 2^31: a polynomial within [-1/4, 0), times the constants
   exp(-2^k) for each bit of the rest. */
static int32_t exponential(int32_t x)
{
    static const int32_t powers[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    if (x == 0)
        return INT32_MAX;
    const int32_t quarter = 1 << 24;
    const int32_t within = (int32_t)((uint32_t)x & (uint32_t)(quarter - 1)) - quarter;
    const int32_t t = within * 32 + (1 << 28); /* from the middle, -1/8, with 31 fraction bits */
    const int32_t t2 = product(t, t), t3 = product(t2, t), t4 = product(t2, t2);
    const int32_t tail = shifted_right(product(shifted_right(t4, 2) + t3, 715827883) + t2, 1);
    int32_t result = 1895147668 + product(1895147668, t + tail);
    const int32_t rest = within - x;
    for (int32_t bit = 0; bit < 7; bit++)
        if (rest & (quarter << bit))
            result = product(result, powers[bit]);
    return result;
}

/* 1 / (1 + a) for a in [0, 1), both as fractions of 2^31: three steps of Newton's method. */
static int32_t reciprocal(int32_t a)
{
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);
    int32_t x = 1515870810 + product(half, -1010580540); /* 48/17 - 32/17 * half, with 29 fraction bits */
    for (int step = 0; step < 3; step++) {
        const int32_t off = (1 << 29) - product(half, x);
        x += clamp((int64_t)product(x, off) * 4, INT32_MIN, INT32_MAX);
    }
    return clamp((int64_t)x * 2, INT32_MIN, INT32_MAX);
}

static int32_t exponential_of(int32_t difference, factor beta)
{
    return exponential(product((int32_t)((uint32_t)difference << beta.shift), beta.multiplier));
}

void seepage_softmax(const int8_t *input, int8_t *output, uint32_t outer, uint32_t inner, factor beta,
                     int32_t smallest)
{
    for (uint32_t i = 0; i < outer; i++, input += inner, output += inner) {
        int32_t largest = -128, sum = 0;
        for (uint32_t k = 0; k < inner; k++)
            largest = input[k] > largest ? input[k] : largest;
        for (uint32_t k = 0; k < inner; k++)
            if (input[k] - largest >= smallest)
                sum += shifted_right(exponential_of(input[k] - largest, beta), 12);
        const int32_t zeros = __builtin_clz((uint32_t)sum);
        const int32_t share = reciprocal((int32_t)(((uint32_t)sum << zeros) - (1u << 31)));
        for (uint32_t k = 0; k < inner; k++) {
            int32_t level = -128;
            if (input[k] - largest >= smallest)
                level += shifted_right(product(share, exponential_of(input[k] - largest, beta)), 12 - zeros + 31 - 8);
            output[k] = (int8_t)clamp(level, -128, 127);
        }
    }
}
