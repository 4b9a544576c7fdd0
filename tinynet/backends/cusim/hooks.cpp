// Functions that the compiler calls from a kernel that is built for the checks. Their names are those of the tools that
// it knows, ThreadSanitizer and UndefinedBehaviorSanitizer; instead of the tools, ours are linked.
#include <string.h>

#include "findings.h"
#include "shadow.h"

#define CALLER __builtin_return_address(0)

using cusim::shadow::Kind;

// ---- before each access to memory (-fsanitize=thread)
#define READ_AND_WRITE(bytes)                                                                                  \
  extern "C" void __tsan_read##bytes(void* p) { cusim::shadow::access(p, bytes, Kind::read, CALLER); }           \
  extern "C" void __tsan_write##bytes(void* p) { cusim::shadow::access(p, bytes, Kind::write, CALLER); }         \
  extern "C" void __tsan_unaligned_read##bytes(void* p) { cusim::shadow::access(p, bytes, Kind::read, CALLER); } \
  extern "C" void __tsan_unaligned_write##bytes(void* p) { cusim::shadow::access(p, bytes, Kind::write, CALLER); }
READ_AND_WRITE(1)
READ_AND_WRITE(2)
READ_AND_WRITE(4)
READ_AND_WRITE(8)
READ_AND_WRITE(16)
extern "C" void __tsan_read_range(void* p, size_t bytes) { cusim::shadow::access(p, bytes, Kind::read, CALLER); }
extern "C" void __tsan_write_range(void* p, size_t bytes) { cusim::shadow::access(p, bytes, Kind::write, CALLER); }
// clang calls these in the place of the functions without __tsan_.
extern "C" void* __tsan_memset(void* to, int value, size_t bytes) {
  if (bytes) cusim::shadow::access(to, bytes, Kind::write, CALLER);
  return memset(to, value, bytes);
}
extern "C" void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  if (bytes) cusim::shadow::access(from, bytes, Kind::read, CALLER);
  if (bytes) cusim::shadow::access(to, bytes, Kind::write, CALLER);
  return memmove(to, from, bytes);
}
extern "C" void* __tsan_memmove(void* to, const void* from, size_t bytes) { return __tsan_memcpy(to, from, bytes); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

// ---- where the language gives no result (-fsanitize=bounds, signed-integer-overflow, integer-divide-by-zero).
// What is passed begins with the place in the source.
namespace {
void report(const char* kind, const void* place, const char* text, int64_t number) {
  cusim::Finding finding(kind, cusim::spot(*cusim::launch.current, *(const cusim::Place*)place), number);
  finding.text = text;
  cusim::add_finding(finding);
}
}  // namespace

extern "C" void __ubsan_handle_out_of_bounds(void* place, void* index) {
  report("index", place, "", (int64_t)(intptr_t)index);
  cusim::abort_launch();
}
extern "C" void __ubsan_handle_divrem_overflow(void* place, void*, void* divisor) {
  report("division", place, "", (int64_t)(intptr_t)divisor);
  cusim::abort_launch();
}
extern "C" void __ubsan_handle_add_overflow(void* place, void*, void*) { report("overflow", place, "+", 0); }
extern "C" void __ubsan_handle_sub_overflow(void* place, void*, void*) { report("overflow", place, "-", 0); }
extern "C" void __ubsan_handle_mul_overflow(void* place, void*, void*) { report("overflow", place, "*", 0); }
extern "C" void __ubsan_handle_negate_overflow(void* place, void*) { report("overflow", place, "-", 0); }
