// How well the accesses of a warp fit together; see statistics.cpp.
#pragma once
#include "shadow.h"

namespace cusim {
namespace statistics {

void begin();  // of a launch
void barrier_passed();
void block_done();
void count(uintptr_t address, size_t bytes, shadow::Kind kind, bool is_shared, const void* caller);

}  // namespace statistics
}  // namespace cusim
