#pragma once

#include <chrono>

namespace shardplan::util {

/// Stopwatch on the steady clock.
class Clock {
 public:
  /// Returns the seconds since the previous call, or since construction.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> taken = now - last_;
    last_ = now;
    return taken.count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace shardplan::util
