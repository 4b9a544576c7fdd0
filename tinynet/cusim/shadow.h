// Watches every access to memory; see shadow.cpp.
#pragma once
#include "state.h"

namespace cusim {
namespace shadow {

void begin();           // a launch
void barrier_passed();  // by all threads of the block
void block_done();

}  // namespace shadow
}  // namespace cusim
