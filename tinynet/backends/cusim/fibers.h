// Fibers: functions that can be left in the middle and continued later, each on a stack of its own. The scheduler leaves a
// CUDA thread this way while it waits for others. Unlike threads of the operating system, fibers run one at a time, in the
// order that the scheduler chooses, and switching takes some nanoseconds.
#pragma once
#include <stddef.h>

namespace cusim {

struct Fiber {
  void* stack_pointer;  // where it was left
  char* stack;          // its lowest address: stacks grow downwards
};

const size_t STACK_BYTES = 64 << 10;
// The largest stack frame of one function. build.py tells the compiler to refuse more.
const size_t MOST_FRAME_BYTES = 32 << 10;

// Memory for the stacks of `count` fibers. Pages that are never touched cost nothing.
char* allocate_stacks(size_t count);
// Makes the fiber start with `body`, which must never return.
void prepare(Fiber& fiber, char* stack, void (*body)());
// Whether the fiber has written beyond the end of its stack.
bool has_overflowed(const Fiber& fiber);
// Leaves the running fiber, keeps its place in `*left`, and continues at `stack_pointer`.
void switch_stacks(void** left, void* stack_pointer) asm("cusim_switch_stacks");

}  // namespace cusim
