#include "fibers.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

// A function may change some registers and must preserve the others. The compiler keeps nothing in the first kind across a
// call. So it is enough to push the second kind on the stack, to exchange the stack pointers, and to pop the registers of
// the other fiber from its stack. The return address lies there already, so `ret` goes to where the other fiber was left.
#if defined(__x86_64__)
asm(R"(
.text
.globl cusim_switch_stacks
.hidden cusim_switch_stacks
cusim_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
const int RETURN_ADDRESS = 6, FRAME_WORDS = 8;  // six registers lie before it
#elif defined(__aarch64__)
asm(R"(
.macro all_pairs instruction
  \instruction x19, x20, [sp]
  \instruction x21, x22, [sp, #16]
  \instruction x23, x24, [sp, #32]
  \instruction x25, x26, [sp, #48]
  \instruction x27, x28, [sp, #64]
  \instruction x29, x30, [sp, #80]
  \instruction d8, d9, [sp, #96]
  \instruction d10, d11, [sp, #112]
  \instruction d12, d13, [sp, #128]
  \instruction d14, d15, [sp, #144]
.endm
.text
.globl cusim_switch_stacks
.hidden cusim_switch_stacks
cusim_switch_stacks:
  sub sp, sp, #160
  all_pairs stp
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  all_pairs ldp
  add sp, sp, #160
  ret
)");
const int RETURN_ADDRESS = 11, FRAME_WORDS = 20;  // x30, the return address, is the twelfth word
#else
#error "the emulator switches stacks on x86-64 and on 64-bit ARM only"
#endif

namespace cusim {

const uint64_t CANARY = 0x5ca1ab1e0ddba11;  // in the last word of a stack: gone when something was written there

char* allocate_stacks(size_t count) {
  void* memory = mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : (char*)memory;
}

void prepare(Fiber& fiber, char* stack, void (*body)()) {
  void** frame = (void**)(stack + STACK_BYTES) - FRAME_WORDS;
  memset(frame, 0, FRAME_WORDS * sizeof(void*));
  frame[RETURN_ADDRESS] = (void*)body;  // as if it had been left just before its first instruction
  fiber = {frame, stack};
  memcpy(stack, &CANARY, sizeof CANARY);
}

bool has_overflowed(const Fiber& fiber) { return memcmp(fiber.stack, &CANARY, sizeof CANARY) != 0; }

}  // namespace cusim
