#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "findings.h"

namespace cusim {
namespace {

const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGINT};
const int COUNT = 4;
struct sigaction before[COUNT];
stack_t stack_before;
// A handler needs a stack of its own: that of the kernel may be what has run over.
alignas(16) char stack[64 << 10];
pthread_t launching_thread;
volatile sig_atomic_t interrupts;

uintptr_t instruction(const ucontext_t* context) {
#if defined(__x86_64__)
  return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
  return (uintptr_t)context->uc_mcontext.pc;
#endif
}

void set_back() {
  for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
}

bool is_in_kernel() { return launch.current && pthread_equal(pthread_self(), launching_thread); }

void on_interrupt(int) {
  interrupts = interrupts + 1;
  if (interrupts > 1 && is_in_kernel()) abort_launch();
}

void on_crash(int signal, siginfo_t* info, void* context) {
  if (!is_in_kernel()) {
    set_back();  // nothing of ours: the instruction is made again, and what was there before has its turn
    return;
  }
  const void* caller = (const void*)(instruction((const ucontext_t*)context) + 1);
  const uintptr_t address = (uintptr_t)info->si_addr, stack_end = (uintptr_t)launch.current->fiber->stack;
  const bool is_below_stack = address < stack_end && stack_end - address < STACK_BYTES;
  const char* kind = signal == SIGFPE ? "division" : is_below_stack ? "stack overflow" : "crash";
  add_finding(Finding(kind, spot(*launch.current, caller), signal == SIGFPE ? 0 : (int64_t)address));
  abort_launch();  // continues in the scheduler; the handler never returns
}

}  // namespace

SignalGuard::SignalGuard() {
  launching_thread = pthread_self();
  interrupts = 0;
  stack_t ours = {};
  ours.ss_sp = stack;
  ours.ss_size = sizeof stack;
  sigaltstack(&ours, &stack_before);
  for (int i = 0; i < COUNT; ++i) {
    struct sigaction action = {};
    action.sa_flags = SA_ONSTACK | SA_NODEFER;  // not deferred: a handler may never return
    if (SIGNALS[i] == SIGINT) {
      action.sa_handler = on_interrupt;
    } else {
      action.sa_sigaction = on_crash;
      action.sa_flags |= SA_SIGINFO;
    }
    sigaction(SIGNALS[i], &action, &before[i]);
  }
}

SignalGuard::~SignalGuard() {
  set_back();
  sigaltstack(&stack_before, nullptr);
  if (interrupts) raise(SIGINT);
}

bool is_interrupted() { return interrupts > 0; }

}  // namespace cusim
