// How well the accesses of a warp fit together. A GPU serves the 32 lanes of a warp as one: what an instruction costs
// depends on which addresses they have.
//
// Global memory comes in sectors of 32 bytes. Cost: how many the warp touches; ideal: how many the bytes that it needs
// would fill. Neighboring lanes at neighboring addresses reach it.
//
// Shared memory has 32 banks; a word of 4 bytes at address a is in bank a / 4 mod 32. A bank serves one word at a time
// (to all lanes that want it). Cost: how many times the busiest bank is asked; ideal: once for every 128 bytes that
// the lanes ask for together. Accesses of 8 and 16 bytes are served to half and quarter warps, one after the other.
//
// Which accesses belong together? Lanes of a warp that are at the same instruction for the same time since the last
// barrier. That is a guess where lanes take different branches.
#include "statistics.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "findings.h"

namespace cusim {
namespace statistics {
namespace {

// All accesses of one instruction; the class Row in run.py has the same fields.
struct Row {
  uint64_t code_offset;
  int is_shared, is_write;
  int64_t accesses, cost, ideal;  // by warps
};

// One access by a warp: the addresses of the lanes that made it.
struct Together {
  std::vector<uintptr_t> addresses;
  size_t bytes;
  const void* caller;
  bool is_shared, is_write;
};

std::map<std::tuple<const void*, unsigned, unsigned>, Together> pending;  // by instruction, warp and time
std::unordered_map<const void*, std::vector<unsigned>> times;             // by instruction and thread
std::map<uint64_t, Row> rows;
std::vector<Row> result;

int64_t count_distinct(std::vector<uintptr_t>& numbers) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return (int64_t)numbers.size();
}

void add_global(const Together& access, Row& row) {
  std::vector<uintptr_t> sectors, addresses = access.addresses;
  for (uintptr_t address : addresses)
    for (uintptr_t sector = address / 32; sector <= (address + access.bytes - 1) / 32; ++sector)
      sectors.push_back(sector);
  row.cost += count_distinct(sectors);
  row.ideal += (count_distinct(addresses) * (int64_t)access.bytes + 31) / 32;
}

void add_shared(const Together& access, Row& row) {
  const size_t words = std::max<size_t>(1, access.bytes / 4), at_once = WARP / words;  // lanes that are served at once
  for (size_t first = 0; first < access.addresses.size(); first += at_once) {
    std::vector<uintptr_t> asked;
    for (size_t i = first; i < std::min(first + at_once, access.addresses.size()); ++i)
      for (size_t word = 0; word < words; ++word) asked.push_back(access.addresses[i] / 4 + word);
    count_distinct(asked);
    int64_t by_bank[32] = {}, most = 0;
    for (uintptr_t word : asked) most = std::max(most, ++by_bank[word % 32]);
    row.cost += most;
    row.ideal += 1;
  }
}

void finish_pending() {
  for (const auto& [key, access] : pending) {
    const uint64_t offset = code_offset(access.caller);
    Row& row = rows.try_emplace(offset, Row{offset, access.is_shared, access.is_write, 0, 0, 0}).first->second;
    ++row.accesses;
    access.is_shared ? add_shared(access, row) : add_global(access, row);
  }
  pending.clear();
  times.clear();
}

}  // namespace

void begin() {
  pending.clear();
  times.clear();
  rows.clear();
}

void barrier_passed() { finish_pending(); }

void block_done() { finish_pending(); }

void count(uintptr_t address, size_t bytes, shadow::Kind kind, bool is_shared, const void* caller) {
  const unsigned thread = launch.current->number;
  std::vector<unsigned>& of_threads = times[caller];
  of_threads.resize(launch.threads.size());
  Together& access = pending[{caller, thread / WARP, of_threads[thread]++}];
  access.addresses.push_back(address);
  access.bytes = bytes;
  access.caller = caller;
  access.is_shared = is_shared;
  access.is_write = kind != shadow::Kind::read;
}

}  // namespace statistics
}  // namespace cusim

extern "C" __attribute__((visibility("default"))) int cusim_statistics(const cusim::statistics::Row** first) {
  using namespace cusim::statistics;
  result.clear();
  for (const auto& [offset, row] : rows) result.push_back(row);
  *first = result.data();
  return (int)result.size();
}
