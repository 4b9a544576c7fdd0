#include "findings.h"

#include <string.h>

#include <vector>

extern "C" char __ehdr_start __attribute__((visibility("hidden")));  // where the library was loaded

namespace cusim {

namespace {

const size_t MOST_FINDINGS = 20;
std::vector<Finding> findings;

Spot of_thread(const Thread& thread) {
  Spot spot;
  const uint3 block = launch.block, index = thread.index;
  const unsigned blocks[3] = {block.x, block.y, block.z}, threads[3] = {index.x, index.y, index.z};
  memcpy(spot.block, blocks, sizeof blocks);
  memcpy(spot.thread, threads, sizeof threads);
  return spot;
}

}  // namespace

Spot spot(const Thread& thread, Place place) {
  Spot spot = of_thread(thread);
  spot.file = place.file;
  spot.line = place.line;
  return spot;
}

Spot spot(const Thread& thread, const void* caller) {
  Spot spot = of_thread(thread);
  spot.code_offset = code_offset(caller);
  return spot;
}

// A return address is that of the next instruction: one byte less lies in the call.
uint64_t code_offset(const void* caller) { return (uintptr_t)caller - (uintptr_t)&__ehdr_start - 1; }

void add_finding(const Finding& finding) {
  if (findings.size() >= MOST_FINDINGS) return;
  for (const Finding& known : findings)
    if (!strcmp(known.kind, finding.kind) && known.spot.line == finding.spot.line &&
        known.spot.code_offset == finding.spot.code_offset)
      return;
  findings.push_back(finding);
}

void forget_findings() { findings.clear(); }

bool lies_in(const Range& range, uintptr_t address) {
  return address >= (uintptr_t)range.start && address < (uintptr_t)range.start + range.bytes;
}

void locate(Finding& finding, uintptr_t address) {
  const Range declared[] = {launch.static_shared, launch.dynamic_shared, launch.device_variables};
  const int names[] = {STATIC_SHARED, DYNAMIC_SHARED, DEVICE_VARIABLE};
  for (int i = 0; i < 3; ++i)
    if (lies_in(declared[i], address)) {
      finding.buffer = names[i];
      finding.offset = address - (uintptr_t)declared[i].start;
      return;
    }
  uintptr_t nearest = ~(uintptr_t)0;
  for (int i = 0; i < launch.request.buffer_count; ++i) {
    const Buffer& buffer = launch.request.buffers[i];
    const uintptr_t end = buffer.start + buffer.bytes;
    const uintptr_t distance = address < buffer.start ? buffer.start - address : address < end ? 0 : address - end + 1;
    if (distance >= nearest) continue;
    nearest = distance;
    finding.buffer = i;
    finding.offset = (int64_t)(address - buffer.start);
  }
}

}  // namespace cusim

extern "C" __attribute__((visibility("default"))) int cusim_findings(const cusim::Finding** first) {
  *first = cusim::findings.data();
  return (int)cusim::findings.size();
}
