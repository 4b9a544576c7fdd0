// What the processor refuses while a kernel runs becomes a finding instead of the end of the program, and a kernel that
// never ends can be interrupted.
#pragma once

namespace cusim {

// As long as it exists, signals go to the emulator. Then what was set before is set again.
//
// SIGSEGV and the like in a kernel abort the launch. Ctrl-C does so as soon as a thread waits or, in the checks, touches
// memory; pressed again, at once. Python gets it when the launch has ended, and raises KeyboardInterrupt.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
};

bool is_interrupted();

}  // namespace cusim
