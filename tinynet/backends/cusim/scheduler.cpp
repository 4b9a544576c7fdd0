// Runs the blocks of a grid one after the other, and the threads of a block in turns: each until it ends or has to wait for
// others. Nothing happens at the same time, so a run can be repeated. The checks (shadow.cpp) and runs in other orders find
// what would go wrong on a GPU, where threads do run at the same time.
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include <memory>
#include <numeric>
#include <utility>

#include "findings.h"
#include "shadow.h"
#include "signals.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// The linker knows where a section begins and ends. Weak: a file may have no such variables, and so no section.
#define LINKED __attribute__((weak, visibility("hidden")))
extern "C" char LINKED __start_cusim_shared, LINKED __stop_cusim_shared;
extern "C" char LINKED __start_cusim_device, LINKED __stop_cusim_device;

namespace cusim {

Launch launch;

namespace {

std::vector<Fiber> fibers;  // one for each thread that waits; the others need none
std::vector<Fiber*> spare_fibers;
void* scheduler_stack;
std::vector<unsigned> thread_order;
size_t started;  // how many threads of the block have been, in that order

uint64_t random_bits() {  // splitmix64
  uint64_t z = launch.random_state += 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

void put_in_order(std::vector<unsigned>& numbers) {
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (launch.request.order == reversed) std::iota(numbers.rbegin(), numbers.rend(), 0u);
  if (launch.request.order == shuffled)
    for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[random_bits() % i]);
}

// ---- from one thread to the next
void become(Thread& thread) {
  launch.current = &thread;
  threadIdx = thread.index;
}

// What every fiber does: it runs the kernel for one thread after the other. Only when one has to wait, another fiber
// takes the rest: threads that never wait need no switching at all.
void run_threads() {
  for (;;) {
    launch.request.kernel(launch.request.arguments);
    Thread& finished = *launch.current;
    finished.state = State::finished;
    Fiber* fiber = finished.fiber;
    if (started < thread_order.size() && !has_overflowed(*fiber) && !is_interrupted()) {
      Thread& next = launch.threads[thread_order[started++]];
      next.fiber = fiber;
      next.state = State::ready;
      become(next);
    } else {
      spare_fibers.push_back(fiber);
      leave();
    }
  }
}

void resume(Thread& thread) {
  become(thread);
  switch_stacks(&scheduler_stack, thread.fiber->stack_pointer);
}

void start(Thread& thread) {
  thread.fiber = spare_fibers.back();
  spare_fibers.pop_back();
  thread.state = State::ready;
  resume(thread);
}

// ---- barriers
// No thread can go on: all wait or have ended. Lets them pass the barrier; false when they wait for what never comes.
bool release_barrier() {
  const Thread *first = nullptr, *elsewhere = nullptr, *in_warp = nullptr, *ended = nullptr;
  unsigned waiting = 0, votes = 0;
  for (Thread& thread : launch.threads) {
    if (thread.state == State::in_warp && !in_warp) in_warp = &thread;
    if (thread.state == State::finished) ended = &thread;
    if (thread.state != State::at_barrier) continue;
    if (!first) first = &thread;
    if (thread.place.line != first->place.line || strcmp(thread.place.file, first->place.file)) elsewhere = &thread;
    ++waiting;
    votes += thread.vote;
  }
  if (in_warp) {
    unsigned absent = 0;
    for (const Thread& thread : launch.threads)
      if (thread.number / WARP == in_warp->number / WARP && thread.state != State::in_warp)
        absent |= in_warp->mask & 1u << thread.number % WARP;
    Finding finding("absent lanes", spot_of(*in_warp), absent);
    add_finding(first ? finding.with_other(spot_of(*first)) : finding);
    return false;
  }
  if (elsewhere) add_finding(Finding("different barriers", spot_of(*first)).with_other(spot_of(*elsewhere)));
  if (ended) {
    const unsigned absent = launch.threads.size() - waiting;
    add_finding(Finding("barrier not reached", spot_of(*first), absent).with_other(spot_of(*ended)));
  }
  ++launch.epoch;
  if (launch.request.is_checked) shadow::barrier_passed();
  for (Thread& thread : launch.threads)
    if (thread.state == State::at_barrier) {
      thread.result = votes;
      thread.state = State::ready;
    }
  return true;
}

// ---- blocks and grids
void forget_shared_memory() {  // 0xff..: NaN as a float, -1 as an int; what the last block left must not look right
  for (const Range& range : {launch.static_shared, launch.dynamic_shared})
    if (range.bytes) memset(range.start, 0xff, range.bytes);
}

void begin_block(unsigned number) {
  const dim3 grid = gridDim, block = blockDim;
  launch.block_number = number;
  blockIdx = launch.block = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
  launch.epoch = 0;
  started = 0;
  forget_shared_memory();
  for (unsigned i = 0; i < launch.threads.size(); ++i) {
    launch.threads[i] = Thread{};
    launch.threads[i].number = i;
    launch.threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
}

bool run_block(unsigned number) {
  begin_block(number);
  put_in_order(thread_order);
  while (started < thread_order.size()) {
    start(launch.threads[thread_order[started++]]);
    if (launch.is_aborted) return false;
  }
  for (;;) {
    bool any_ran = false, all_ended = true;
    if (launch.request.order == shuffled) put_in_order(thread_order);
    for (unsigned i : thread_order) {
      Thread& thread = launch.threads[i];
      if (thread.state == State::ready) {
        any_ran = true;
        resume(thread);
        if (launch.is_aborted) return false;
      }
      all_ended = all_ended && thread.state == State::finished;
    }
    if (all_ended) return true;
    if (!any_ran && !release_barrier()) return false;
  }
}

void prepare_fibers(size_t count) {
  static char* stacks = nullptr;
  static size_t capacity = 0;
  if (count > capacity) {  // at most twice: the largest block has 1024 threads
    capacity = count > 256 ? 1024 : 256;
    stacks = allocate_stacks(capacity);
    if (!stacks) abort();
  }
  fibers.resize(count);
  spare_fibers.clear();
  for (size_t i = count; i-- > 0;) {
    prepare(fibers[i], stacks + i * STACK_BYTES, run_threads);
    spare_fibers.push_back(&fibers[i]);
  }
}

Range dynamic_memory(size_t bytes) {
  static std::unique_ptr<char, decltype(&free)> memory(nullptr, free);
  static size_t capacity = 0;
  if (bytes > capacity) {
    capacity = (bytes + 127) / 128 * 128;
    memory.reset((char*)aligned_alloc(128, capacity));
  }
  return {memory.get(), bytes};
}

}  // namespace

void leave() {
  Fiber* fiber = launch.current->fiber;
  if (has_overflowed(*fiber)) {
    add_finding(Finding("stack overflow", spot_of(*launch.current)));
    launch.is_aborted = true;
  }
  if (is_interrupted()) launch.is_aborted = true;
  switch_stacks(&fiber->stack_pointer, scheduler_stack);
}

void abort_launch() {
  launch.is_aborted = true;
  leave();
  abort();  // not reached: an aborted launch is not gone on with
}

unsigned meet_block(bool vote, Place at) {
  Thread& thread = *launch.current;
  thread.vote = vote;
  thread.place = at;
  thread.state = State::at_barrier;
  leave();
  return (unsigned)thread.result;
}

void no_such_kernel() {
  add_finding(Finding("no kernel", spot(*launch.current, here())));
  abort_launch();
}

char* dynamic_shared_memory() { return launch.dynamic_shared.start; }

}  // namespace cusim

// ---- called from Python. Returns 0 when the kernel ran to its end.
extern "C" __attribute__((visibility("default"))) int cusim_launch(const cusim::Request* request) {
  using namespace cusim;
  launch.request = *request;
  gridDim = {request->grid[0], request->grid[1], request->grid[2]};
  blockDim = {request->block[0], request->block[1], request->block[2]};
  const size_t thread_count = (size_t)blockDim.x * blockDim.y * blockDim.z;
  const size_t block_count = (size_t)gridDim.x * gridDim.y * gridDim.z;
  launch.threads.resize(thread_count);
  launch.random_state = request->seed;
  launch.is_aborted = false;
  forget_findings();
  launch.static_shared = {&__start_cusim_shared, (size_t)(&__stop_cusim_shared - &__start_cusim_shared)};
  launch.device_variables = {&__start_cusim_device, (size_t)(&__stop_cusim_device - &__start_cusim_device)};
  launch.dynamic_shared = dynamic_memory(request->shared_bytes);
  thread_order.resize(thread_count);
  prepare_fibers(thread_count);
  std::vector<unsigned> block_order(block_count);
  put_in_order(block_order);
  if (request->is_checked) shadow::begin();
  launch.is_running = true;
  const SignalGuard guard;
  bool is_done = true;
  for (size_t i = 0; i < block_count && is_done; ++i) {
    is_done = run_block(block_order[i]);
    if (is_done && request->is_checked) shadow::block_done();
  }
  launch.is_running = false;
  launch.current = nullptr;
  return is_done ? 0 : 1;
}
