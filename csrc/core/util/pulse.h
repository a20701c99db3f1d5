#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

namespace shardplan::util {

/// Lets whoever asked for long work stop it: loops call `beat`, which asks every 50 ms or so, and
/// throws what the question throws. Of one thread.
class Pulse {
 public:
  /// Never stops.
  Pulse() = default;
  explicit Pulse(std::function<void()> ask) : ask_(std::move(ask)) {}

  /// For loops whose rounds take less than a microsecond or so.
  void beat() const {
    if (++beats_ % kBeats == 0) check();
  }

  /// For those whose rounds take longer.
  void check() const {
    if (!ask_ || std::chrono::steady_clock::now() < next_) return;
    ask_();
    next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  }

 private:
  static constexpr std::uint32_t kBeats = 1024;

  std::function<void()> ask_;
  mutable std::uint32_t beats_ = 0;
  mutable std::chrono::steady_clock::time_point next_;
};

}  // namespace shardplan::util
