// What the processor itself refuses while a kernel runs becomes a finding instead of the end of the program.
#pragma once

namespace cusim {

// As long as it exists, SIGSEGV and the like in a kernel abort the launch. What was set before is set again after it.
class CrashGuard {
 public:
  CrashGuard();
  ~CrashGuard();
};

}  // namespace cusim
