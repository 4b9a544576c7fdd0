// Watches every access to memory; see shadow.cpp.
#pragma once
#include "state.h"

namespace cusim {
namespace shadow {

void begin();  // of a launch
void barrier_passed();
void warp_synchronized(Thread* lanes, unsigned mask);
void block_done();

enum class Kind { read, write, atomic };
// One access by the thread that is running; `caller` is an address in the code that makes it.
void access(const void* address, size_t bytes, Kind kind, const void* caller);

}  // namespace shadow
}  // namespace cusim
