// What the emulator has found wrong: facts only; findings.py makes sentences of them.
#pragma once
#include "state.h"

namespace cusim {

// A place in the kernel and the thread that was there. The place is either known by name, or by an address in the
// machine code, which Python turns into a name.
struct Spot {
  const char* file = nullptr;
  int line = 0;
  uint64_t code_offset = 0;  // from the start of the loaded library; 0 where the file is known
  unsigned block[3] = {}, thread[3] = {};
};

struct Finding {
  Finding(const char* kind, Spot spot, int64_t number = 0) : kind(kind), spot(spot), number(number) {}
  Finding& with_other(Spot spot) {
    other = spot;
    has_other = 1;
    return *this;
  }

  const char* kind;
  Spot spot;
  Spot other;           // for races and threads that wait in different places
  int has_other = 0;
  int buffer = -1;      // number of the array, or one of the constants below
  int64_t offset = 0;   // in bytes from its start
  int bytes = 0;        // size of the access
  int is_write = 0, is_atomic = 0, other_is_write = 0, other_is_atomic = 0;
  int64_t number;       // lane, mask, index or number of threads, by the kind of finding
  const char* text = "";
};
const int NOWHERE = -1, STATIC_SHARED = -2, DYNAMIC_SHARED = -3, DEVICE_VARIABLE = -4;

// A thread at a place, or at an address in the machine code of the kernel.
Spot spot(const Thread& thread, Place place);
Spot spot(const Thread& thread, const void* caller);
inline Spot spot_of(const Thread& waiting) { return spot(waiting, waiting.place); }
uint64_t code_offset(const void* caller);
// Keeps the finding, unless there is one of the same kind and place already, or there are many.
void add_finding(const Finding& finding);
void forget_findings();
// Fills in the array in which an address lies, else the array nearest to it, and the offset from its start.
void locate(Finding& finding, uintptr_t address);
bool lies_in(const Range& range, uintptr_t address);

}  // namespace cusim
