// The state of the launch under way, which the parts of the runtime share. There is one launch at a time.
#pragma once
#include <vector>

#include "fibers.h"
#include "runtime.h"

namespace cusim {

enum class State : uint8_t { not_started, ready, at_barrier, in_warp, finished };

struct Thread {
  uint3 index;
  unsigned number;  // among all of the block, x fastest
  State state;
  Fiber* fiber;
  // While it waits:
  Place place;
  bool vote;
  WarpOperation operation;
  unsigned mask;
  uint64_t value, result;
  int source;
  // For the checks of races, see shadow.cpp:
  uint16_t warp_epoch;  // how many times it was synchronized with lanes of its warp
  uint16_t fences;      // how many __threadfence it made
  uint16_t fence_epoch, fences_before_epoch;  // the block's epoch at the last one, and how many were made before that
  uint16_t fences_published;                  // how many were followed by an atomic operation of its own
  const void* acquired;  // where the last atomic operation was that this thread knows to have happened
};

enum Order : int { forward, reversed, shuffled };

// An array of the host that the kernel may touch.
struct Buffer {
  uintptr_t start;
  size_t bytes;
  int cell_bytes;  // the smallest piece that threads may own; 4, or 1 for arrays of bytes
};

// What Python asks for; the class Request in run.py has the same fields.
struct Request {
  void (*kernel)(void** arguments);
  void** arguments;
  unsigned grid[3], block[3];
  size_t shared_bytes;
  int order;
  uint64_t seed;
  int is_checked, with_statistics, declared_cell_bytes;
  int buffer_count;
  const Buffer* buffers;
};

// A part of memory that all threads of a block share.
struct Range {
  char* start;
  size_t bytes;
};

struct Launch {
  Request request;
  std::vector<Thread> threads;
  Thread* current = nullptr;
  uint3 block;            // its index
  unsigned block_number;  // among all of the grid, x fastest
  unsigned epoch;         // how many barriers the block has passed
  bool is_running = false, is_aborted = false;
  Range static_shared, dynamic_shared, device_variables;
  uint64_t random_state;
};
extern Launch launch;

// Goes back to the scheduler; returns when the scheduler chooses this thread again.
void leave();
// Leaves the kernel for good, after an error.
[[noreturn]] void abort_launch();

}  // namespace cusim
