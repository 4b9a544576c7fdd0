// What a compiled kernel and the emulator's runtime (fibers.cpp, scheduler.cpp, ...) say to each other.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// The thread that is running. The scheduler sets these whenever it goes on with another thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cusim {

// Where in a .cu file something is said. As a default argument, `Place at = here()` is the place of the call.
struct Place {
  const char* file;
  int line;
};
constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

const unsigned WARP = 32;
const unsigned FULL_MASK = 0xffffffffu;

// What the lanes of a warp do together.
enum class WarpOperation { synchronize, shuffle, vote, multiply };

// What one lane of a warp brings to mma: 16 x 8 and 8 x 8 matrices, of which each lane holds some elements.
struct Fragments {
  float* d;
  const unsigned *a, *b;
};

unsigned lane();  // of the thread that is running
// Waits for all threads of the block. Returns how many of them came with a vote that is not 0.
unsigned meet_block(bool vote, Place at);
// Waits for the lanes in `mask`. Returns, for a shuffle, the value of lane `source`; for a vote, a bit for each lane.
uint64_t meet_warp(WarpOperation operation, unsigned mask, uint64_t value, int source, Place at);
void fence();
// Before a read and write that no other thread can come between.
void before_atomic(void* address, int bytes, const void* caller);
char* dynamic_shared_memory();
[[noreturn]] void no_such_kernel();

}  // namespace cusim
