#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace shardplan::fuzz {

/// Input of a fuzzer, consumed from the front.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size)
      : bytes_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() { return empty() ? 0 : static_cast<std::uint8_t>(take(1)[0]); }
  /// Returns a number in [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + byte() % (high - low + 1);
  }
  std::string_view take(std::size_t count) {
    count = count < bytes_.size() ? count : bytes_.size();
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  std::string_view rest() { return take(bytes_.size()); }

 private:
  std::string_view bytes_;
};

/// Aborts with the message `what` unless `holds`.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace shardplan::fuzz
