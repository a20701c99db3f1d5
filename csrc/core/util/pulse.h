#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

namespace shardplan::util {

/// Cancellation point for long loops. A loop calls `beat` or `check` in each iteration; about every
/// 50 ms this calls `ask`, whose exception ends the loop. Not thread-safe.
class Pulse {
 public:
  /// Constructs a pulse that never cancels.
  Pulse() = default;
  explicit Pulse(std::function<void()> ask) : ask_(std::move(ask)) {}

  /// For iterations shorter than about a microsecond: reads the clock on every 1,024th call only.
  void beat() const {
    if (++beats_ % kBeats == 0) check();
  }

  /// For longer iterations: reads the clock on every call.
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
