// The checks of memory. Beside each piece of memory that threads share, a cell of *shadow memory* says which threads
// last wrote and read it, and when. An access that is not ordered after those in the cell is a race: on a GPU either
// may come first. The emulator runs threads in some order, but it never takes comfort from that.
//
// What orders two accesses:
//   by one thread           the program
//   within a block          a barrier between them: the block's `epoch` counts those that it has passed
//   within a warp           __syncwarp between them: `warp_epoch` counts these
//   in different blocks     only this, the pattern of the last block: the first thread made its write visible
//                           (__threadfence), then its block touched a variable with an atomic operation, and then the
//                           second thread, or its block before a barrier, touched the same variable with another one
#include "shadow.h"

#include <stdlib.h>

#include <algorithm>
#include <memory>

#include "findings.h"
#include "signals.h"
#include "statistics.h"

// Where the library lies in memory. Accesses to its own variables, such as threadIdx, and to constants are right.
extern "C" char __ehdr_start __attribute__((visibility("hidden")));
extern "C" char _end __attribute__((visibility("hidden")));

namespace cusim {
namespace shadow {
namespace {

struct Access {
  uint32_t block;        // its number + 1; 0: there was none
  uint32_t code_offset;  // where in the machine code
  uint16_t thread : 15, is_atomic : 1;
  uint16_t epoch, warp_epoch;
  uint16_t fences;  // how many the thread had made before
};

// The last plain write, and readers and atomic operations since then. Readers are not ordered among themselves, and
// neither are atomic operations. Of each, two are enough: a thread that comes later differs from one of them. The second
// is the one farthest from the first so far: in another block, in another warp, another thread.
struct Cell {
  Access writer, atomics[2], readers[2];
};

// A range of memory with its shadow.
struct Memory {
  uintptr_t start, end;
  int cell_bytes;
  bool is_shared;  // by a block only: every block has its own, although they lie at the same address
  std::unique_ptr<Cell[], decltype(&free)> cells;
};

std::vector<Memory> memories;  // by address, without overlap
Memory* last_used;

// What a finished block has made visible to others.
struct Publication {
  const void* ticket = nullptr;  // the variable of its last atomic operation
  unsigned epoch = 0;            // when that was
  unsigned thread = 0;
  unsigned fenced_epoch = 0;     // what the block did in earlier epochs, this thread's fence made visible
  std::vector<uint16_t> fences;  // by thread: what it did before so many fences, these made visible
};
std::vector<Publication> publications;  // by block

Publication& own_publication() { return publications[launch.block_number]; }

// ---- which memory there is
void add_memory(uintptr_t start, size_t bytes, int cell_bytes, bool is_shared) {
  if (bytes) memories.push_back({start, start + bytes, cell_bytes, is_shared, {nullptr, free}});
}

void merge_overlapping() {  // an array may be given twice, or be part of another
  std::sort(memories.begin(), memories.end(), [](const Memory& a, const Memory& b) { return a.start < b.start; });
  size_t kept = 0;
  for (size_t i = 1; i < memories.size(); ++i) {
    Memory &before = memories[kept], &next = memories[i];
    if (next.start < before.end) {
      before.end = std::max(before.end, next.end);
      before.cell_bytes = std::min(before.cell_bytes, next.cell_bytes);
    } else {
      ++kept;
      if (kept != i) memories[kept] = std::move(next);
    }
  }
  memories.erase(memories.begin() + std::min(kept + 1, memories.size()), memories.end());
}

Memory* find(uintptr_t address) {
  if (last_used && address >= last_used->start && address < last_used->end) return last_used;
  auto after = std::upper_bound(memories.begin(), memories.end(), address,
                                [](uintptr_t a, const Memory& memory) { return a < memory.start; });
  if (after == memories.begin() || address >= (after - 1)->end) return nullptr;
  return last_used = &*(after - 1);
}

bool is_private(uintptr_t address) {
  const uintptr_t stack = (uintptr_t)launch.current->fiber->stack;
  return (address >= stack && address < stack + STACK_BYTES) ||
         (address >= (uintptr_t)&__ehdr_start && address < (uintptr_t)&_end);
}

// ---- findings
Finding finding_of(const char* kind, uintptr_t address, size_t bytes, Kind how, const void* caller) {
  Finding finding(kind, spot(*launch.current, caller));
  finding.bytes = (int)bytes;
  finding.is_write = how != Kind::read;
  finding.is_atomic = how == Kind::atomic;
  locate(finding, address);
  return finding;
}

Spot spot_of(const Access& access) {
  const unsigned number = access.block - 1;
  Spot spot;
  spot.code_offset = access.code_offset;
  spot.block[0] = number % gridDim.x;
  spot.block[1] = number / gridDim.x % gridDim.y;
  spot.block[2] = number / gridDim.x / gridDim.y;
  const uint3 thread = launch.threads[access.thread].index;
  spot.thread[0] = thread.x;
  spot.thread[1] = thread.y;
  spot.thread[2] = thread.z;
  return spot;
}

// ---- races
// Whether an access of another, finished block is ordered before one that this thread makes now.
bool is_published(const Access& old, bool old_is_write) {
  const Publication& publication = publications[old.block - 1];
  if (!publication.ticket || launch.current->acquired != publication.ticket) return false;
  if (old.is_atomic) return true;
  if (!old_is_write) return old.epoch < publication.epoch || old.thread == publication.thread;
  return old.epoch < publication.fenced_epoch ||
         (old.thread < publication.fences.size() && old.fences < publication.fences[old.thread]);
}

bool is_ordered(const Access& old, bool old_is_write, bool is_atomic, bool is_shared) {
  const Thread& thread = *launch.current;
  if (!old.block || (old.is_atomic && is_atomic)) return true;
  if (old.block != launch.block_number + 1) return is_shared || is_published(old, old_is_write);
  if (old.thread == thread.number || old.epoch != (uint16_t)launch.epoch) return true;
  return old.thread / WARP == thread.number / WARP && old.warp_epoch != thread.warp_epoch;
}

int distance(const Access& a, const Access& b) {
  if (a.block != b.block) return 3;
  if (a.thread / WARP != b.thread / WARP) return 2;
  return a.thread != b.thread;
}

// Puts `now` in one of two places for accesses that are not ordered among themselves.
void remember(Access (&kept)[2], const Access& now, bool is_shared) {
  auto is_over = [&](const Access& old) {  // nothing that is still to come can be unordered with it but not with `now`
    if (old.block != now.block) return is_shared || !old.block;
    return old.thread == now.thread || old.epoch != now.epoch ||
           (old.thread / WARP == now.thread / WARP && old.warp_epoch != now.warp_epoch);
  };
  if (is_over(kept[0]))
    kept[0] = now;
  else if (is_over(kept[1]) || distance(kept[0], now) > distance(kept[0], kept[1]))
    kept[1] = now;
}

void visit(Cell& cell, bool is_shared, uintptr_t address, size_t bytes, Kind kind, const Access& now,
           const void* caller) {
  const bool is_write = kind != Kind::read, is_atomic = kind == Kind::atomic;
  auto is_of_block = [&](const Access& old) { return old.block == now.block; };
  if (is_shared && kind != Kind::write && !is_of_block(cell.writer) && !is_of_block(cell.atomics[0]) &&
      !is_of_block(cell.atomics[1]))
    add_finding(finding_of("uninitialized", address, bytes, kind, caller));
  auto report_race = [&](const Access& old, bool old_is_write) {
    Finding finding = finding_of("race", address, bytes, kind, caller).with_other(spot_of(old));
    finding.other_is_write = old_is_write;
    finding.other_is_atomic = old.is_atomic;
    finding.number = old.block != now.block ? 2 : old.thread / WARP != now.thread / WARP ? 1 : 0;
    add_finding(finding);
  };
  if (!is_ordered(cell.writer, true, is_atomic, is_shared)) report_race(cell.writer, true);
  for (const Access& atomic : cell.atomics)
    if (!is_ordered(atomic, true, is_atomic, is_shared)) report_race(atomic, true);
  for (const Access& reader : cell.readers)
    if (is_write && !is_ordered(reader, false, is_atomic, is_shared)) report_race(reader, false);
  if (kind == Kind::read) remember(cell.readers, now, is_shared);
  if (is_atomic) remember(cell.atomics, now, is_shared);
  if (kind == Kind::write) cell = {now, {}, {}};
}

}  // namespace

void begin() {
  const Request& request = launch.request;
  memories.clear();
  last_used = nullptr;
  for (const Range& range : {launch.static_shared, launch.dynamic_shared})
    add_memory((uintptr_t)range.start, range.bytes, request.declared_cell_bytes, true);
  const Range& variables = launch.device_variables;
  add_memory((uintptr_t)variables.start, variables.bytes, request.declared_cell_bytes, false);
  for (int i = 0; i < request.buffer_count; ++i) {
    const Buffer& buffer = request.buffers[i];
    add_memory(buffer.start, buffer.bytes, buffer.cell_bytes, false);
  }
  merge_overlapping();
  for (Memory& memory : memories) {  // calloc: pages that no thread touches cost nothing
    const size_t count = (memory.end - memory.start + memory.cell_bytes - 1) / memory.cell_bytes;
    memory.cells.reset((Cell*)calloc(count, sizeof(Cell)));
    if (!memory.cells) abort();
  }
  if (request.with_statistics) statistics::begin();
  publications.assign((size_t)gridDim.x * gridDim.y * gridDim.z, Publication());
}

void barrier_passed() {
  if (launch.request.with_statistics) statistics::barrier_passed();
  const void* ticket = own_publication().ticket;
  if (!ticket) return;
  for (Thread& thread : launch.threads) thread.acquired = ticket;
}

void warp_synchronized(Thread* lanes, unsigned mask) {
  const void* acquired = nullptr;
  for (unsigned i = 0; i < WARP; ++i)
    if ((mask >> i & 1) && lanes[i].acquired) acquired = lanes[i].acquired;
  if (!acquired) return;
  for (unsigned i = 0; i < WARP; ++i)
    if (mask >> i & 1) lanes[i].acquired = acquired;
}

void block_done() {
  if (launch.request.with_statistics) statistics::block_done();
  Publication& publication = own_publication();
  const bool any_fence = std::any_of(launch.threads.begin(), launch.threads.end(), [](auto& t) { return t.fences; });
  if (!publication.ticket || !any_fence) return;
  for (const Thread& thread : launch.threads) {
    // A fence of this thread, then a barrier, then the atomic operation, whoever made it.
    const unsigned before = thread.fence_epoch < publication.epoch ? thread.fences : thread.fences_before_epoch;
    publication.fences.push_back((uint16_t)std::max<unsigned>(before, thread.fences_published));
  }
}

void access(const void* pointer, size_t bytes, Kind kind, const void* caller) {
  if (!launch.is_running) return;
  if (is_interrupted()) abort_launch();
  const uintptr_t address = (uintptr_t)pointer;
  Memory* memory = find(address);
  if (!memory || address + bytes > memory->end) {
    if (!memory && is_private(address)) return;
    add_finding(finding_of("out of bounds", address, bytes, kind, caller));
    abort_launch();  // the access itself would come next
  }
  const bool is_vector = bytes <= 16 && (bytes & (bytes - 1)) == 0;
  if (is_vector && address % bytes) {
    add_finding(finding_of("misaligned", address, bytes, kind, caller));
    abort_launch();  // a CPU, too, has instructions that take aligned addresses only
  }
  const Thread& thread = *launch.current;
  Access now;
  now.block = launch.block_number + 1;
  now.code_offset = (uint32_t)code_offset(caller);
  now.thread = thread.number;
  now.is_atomic = kind == Kind::atomic;
  now.epoch = (uint16_t)launch.epoch;
  now.warp_epoch = thread.warp_epoch;
  now.fences = thread.fences;
  const size_t first = (address - memory->start) / memory->cell_bytes;
  const size_t last = (address + bytes - 1 - memory->start) / memory->cell_bytes;
  for (size_t i = first; i <= last; ++i)
    visit(memory->cells[i], memory->is_shared, address, bytes, kind, now, caller);
  if (launch.request.with_statistics) statistics::count(address, bytes, kind, memory->is_shared, caller);
}

}  // namespace shadow

void fence() {
  Thread& thread = *launch.current;
  if (thread.fence_epoch != (uint16_t)launch.epoch) {
    thread.fences_before_epoch = thread.fences;
    thread.fence_epoch = (uint16_t)launch.epoch;
  }
  ++thread.fences;
}

void before_atomic(void* address, int bytes, const void* caller) {
  if (!launch.request.is_checked) return;
  shadow::access(address, bytes, shadow::Kind::atomic, caller);
  if (lies_in(launch.static_shared, (uintptr_t)address) ||
      lies_in(launch.dynamic_shared, (uintptr_t)address))
    return;
  Thread& thread = *launch.current;
  shadow::Publication& publication = shadow::own_publication();
  publication.ticket = thread.acquired = address;
  publication.epoch = launch.epoch;
  publication.thread = thread.number;
  if (thread.fences) publication.fenced_epoch = std::max<unsigned>(publication.fenced_epoch, thread.fence_epoch);
  thread.fences_published = thread.fences;
}

}  // namespace cusim
