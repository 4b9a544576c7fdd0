// Fibers: functions that can be left in the middle and gone on with later, each on a stack of its own. A CUDA thread
// that waits for others is left this way. Unlike threads of the operating system they run one at a time, in the order
// that we choose, and going from one to another takes some nanoseconds.
#pragma once
#include <stddef.h>

namespace cusim {

struct Fiber {
  void* stack_pointer;  // where it was left
  char* stack;          // its lowest address: stacks grow downwards
};

const size_t STACK_BYTES = 64 << 10;
// What a thread may need in one function; the compiler is told to refuse more, see build.py.
const size_t MOST_FRAME_BYTES = 32 << 10;

// Memory for the stacks of `count` fibers. Pages that are never touched cost nothing.
char* allocate_stacks(size_t count);
// Makes the fiber start with `body`, which must never return.
void prepare(Fiber& fiber, char* stack, void (*body)());
// Whether the fiber has written beyond the end of its stack.
bool has_overflowed(const Fiber& fiber);
// Leaves what is running, keeps its place in `*left`, and goes on at `stack_pointer`.
void switch_stacks(void** left, void* stack_pointer) asm("cusim_switch_stacks");

}  // namespace cusim
