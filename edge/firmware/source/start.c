/* What runs before main: vectors, variables, the floating-point unit. Nothing of the C library but memcpy and memset. */
#include <stdint.h>
#include <string.h>

extern uint8_t data_in_flash[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
void bench_main(void);
void bench_fault(void);
void reset(void);

#define COPROCESSOR_ACCESS (*(volatile uint32_t *)0xE000ED88u)

__attribute__((section(".bench.reset"))) void reset(void)
{
    COPROCESSOR_ACCESS |= 0xFu << 20;
    memcpy(data_start, data_in_flash, (size_t)(data_end - data_start));
    memset(bss_start, 0, (size_t)(bss_end - bss_start));
    bench_main();
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    (vector)stack_top, reset,       bench_fault, bench_fault, bench_fault, bench_fault, bench_fault, bench_fault,
    bench_fault,       bench_fault, bench_fault, bench_fault, bench_fault, bench_fault, bench_fault, bench_fault,
};
