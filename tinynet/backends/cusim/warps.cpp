// What the lanes of a warp do together: wait for each other, exchange values, vote, multiply on tensor cores.
#include <string.h>

#include "findings.h"
#include "shadow.h"

namespace cusim {

namespace {

// D += A B. Which elements a lane holds is in NVIDIA's PTX manual, under mma.m16n8k8 for .tf32: with group = lane / 4
// and member = lane % 4, A[group (+ 8)][member (+ 4)], B[member (+ 4)][group] and D[group (+ 8)][2 member (+ 1)].
void multiply(Thread* lanes) {
  float a[16][8], b[8][8];
  const uint32_t tf32_bits = 0xffffe000u;  // the unit reads no others
  auto value = [&](unsigned bits) {
    float x;
    bits &= tf32_bits;
    memcpy(&x, &bits, sizeof x);
    return x;
  };
  auto fragments = [&](int lane) { return (const Fragments*)(uintptr_t)lanes[lane].value; };
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 4; ++i) a[group + 8 * (i % 2)][member + 4 * (i / 2)] = value(fragments(lane)->a[i]);
    for (int i = 0; i < 2; ++i) b[member + 4 * i][group] = value(fragments(lane)->b[i]);
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      float sum = fragments(lane)->d[i];
      for (int k = 0; k < 8; ++k) sum += a[row][k] * b[k][column];
      fragments(lane)->d[i] = sum;
    }
  }
}

// All lanes of the mask are here; `lanes` is lane 0 of the warp.
void exchange(Thread* lanes, unsigned present, WarpOperation operation) {
  auto is_present = [&](int lane) { return lane >= 0 && lane < (int)WARP && (present >> lane & 1); };
  uint64_t votes = 0;
  for (int lane = 0; lane < (int)WARP; ++lane)
    if (is_present(lane)) votes |= (lanes[lane].value & 1) << lane;
  if (operation == WarpOperation::multiply) multiply(lanes);
  if (operation == WarpOperation::synchronize) shadow::warp_synchronized(lanes, present);
  for (int lane = 0; lane < (int)WARP; ++lane) {
    if (!is_present(lane)) continue;
    Thread& thread = lanes[lane];
    if (operation == WarpOperation::vote) thread.result = votes;
    if (operation == WarpOperation::synchronize) ++thread.warp_epoch;
    if (operation != WarpOperation::shuffle) continue;
    if (is_present(thread.source)) {
      thread.result = lanes[thread.source].value;
    } else {
      thread.result = thread.value;
      add_finding(Finding("lane not there", spot_of(thread), thread.source));
    }
  }
}

// Whether all lanes that `thread` waits for are here, with the same mask.
bool is_complete(const Thread* lanes, unsigned awaited, const Thread& thread) {
  for (unsigned lane = 0; lane < WARP; ++lane)
    if ((awaited >> lane & 1) && lanes[lane].state != State::in_warp) return false;
  for (unsigned lane = 0; lane < WARP; ++lane) {
    const bool is_alike = lanes[lane].mask == thread.mask && lanes[lane].operation == thread.operation;
    if (!(awaited >> lane & 1) || is_alike) continue;
    const int64_t masks = (int64_t)thread.mask << 32 | lanes[lane].mask;
    add_finding(Finding("lanes disagree", spot_of(thread), masks).with_other(spot_of(lanes[lane])));
    abort_launch();
  }
  return true;
}

}  // namespace

unsigned lane() { return launch.current->number % WARP; }

uint64_t meet_warp(WarpOperation operation, unsigned mask, uint64_t value, int source, Place at) {
  Thread& thread = *launch.current;
  const unsigned first = thread.number / WARP * WARP;  // the number of lane 0
  Thread* lanes = &launch.threads[first];
  thread.operation = operation;
  thread.mask = mask;
  thread.value = value;
  thread.source = source;
  thread.place = at;
  thread.state = State::in_warp;
  if (!(mask >> lane() & 1)) {
    add_finding(Finding("not in mask", spot_of(thread), mask));
    abort_launch();
  }
  const unsigned count = launch.threads.size() - first;  // the last warp may have fewer than 32 lanes
  const unsigned existing = count >= WARP ? FULL_MASK : (1u << count) - 1;
  const unsigned awaited = operation == WarpOperation::multiply ? mask : mask & existing;
  if ((awaited & ~existing) == 0 && is_complete(lanes, awaited, thread)) {
    exchange(lanes, awaited, operation);
    for (unsigned i = 0; i < WARP; ++i)
      if (awaited >> i & 1) lanes[i].state = State::ready;
  } else {
    leave();
  }
  return thread.result;
}

}  // namespace cusim
