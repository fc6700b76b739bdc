/* The bench: takes records out of memory, runs the model on each, and sends the answers over the first serial port.
 *
 * Records lie at RECORDS: their number, three words of padding, then MODEL_INPUT_BYTES each. Every answer is sent as
 * MODEL_OUTPUT_BYTES; then come eight words: a mark, the number of records done, bytes of stack, the ticks of all
 * inferences (low and high word), those of the longest, and two of padding. One tick of the board's timer is 40
 * nanoseconds, which is 40 instructions when QEMU counts one nanosecond for each (-icount shift=0).
 */
#include "bench.h"
#include "model.h"

#include <string.h>

#define SERIAL ((volatile uint32_t *)0x40004000u)
#define TIMER ((volatile uint32_t *)0x40000000u)
#define RESET_REQUEST (*(volatile uint32_t *)0xE000ED0Cu)
#define PAINT 0xA5A5A5A5u
#define DONE 0x53454550u
#define FAULT 0x544C4146u
#define IN_BENCH(name) __attribute__((section(".bench." name), noinline))

extern uint32_t bss_end[];
void bench_main(void);
void bench_fault(void);

static int8_t input[MODEL_INPUT_BYTES] __attribute__((aligned(16)));
static int8_t output[MODEL_OUTPUT_BYTES] __attribute__((aligned(16)));

IN_BENCH("send") static void send(const void *bytes, uint32_t count)
{
    const uint8_t *next = bytes;
    while (count--) {
        while (SERIAL[1] & 1u) { /* the transmitter is full */
        }
        SERIAL[0] = *next++;
    }
}

IN_BENCH("stop") static void stop(void)
{
    RESET_REQUEST = 0x05FA0004u; /* started with -no-reboot, QEMU ends here */
    for (;;) {
    }
}

IN_BENCH("fault") void bench_fault(void)
{
    const uint32_t words[8] = {FAULT};
    send(words, sizeof words);
    stop();
}

/* Fills the memory between the variables and the stack; what is still painted afterwards was never used. */
IN_BENCH("main") void bench_main(void)
{
    const uint32_t records = *(const volatile uint32_t *)RECORDS;
    const int8_t *next = (const int8_t *)RECORDS + 16;
    uint64_t ticks = 0;
    uint32_t longest = 0, *here, *lowest;

    SERIAL[4] = 16u; /* the fastest rate */
    SERIAL[2] = 1u;  /* transmit */
    TIMER[1] = TIMER[2] = 0xFFFFFFFFu;
    TIMER[0] = 1u;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (volatile uint32_t *word = bss_end; word < here; word++)
        *word = PAINT;
    for (uint32_t i = 0; i < records; i++, next += MODEL_INPUT_BYTES) {
        memcpy(input, next, MODEL_INPUT_BYTES);
        const uint32_t before = TIMER[1]; /* it counts down */
        model_infer(input, output);
        const uint32_t taken = before - TIMER[1];
        ticks += taken;
        longest = taken > longest ? taken : longest;
        send(output, MODEL_OUTPUT_BYTES);
    }
    for (lowest = bss_end; lowest < here && *(volatile uint32_t *)lowest == PAINT; lowest++) {
    }
    const uint32_t words[8] = {
        DONE, records, (uint32_t)(here - lowest) * 4u, (uint32_t)ticks, (uint32_t)(ticks >> 32), longest};
    send(words, sizeof words);
    stop();
}
