#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shardplan::util {

/// Texts by number, each kept once.
class TextTable {
 public:
  /// Number of a text, which is added where it is new.
  std::uint32_t number_of(std::string_view text);

  /// Number of a text, or nothing.
  std::optional<std::uint32_t> find(std::string_view text) const;

  std::size_t size() const { return texts_.size(); }
  std::string_view operator[](std::size_t number) const { return texts_[number]; }

 private:
  std::size_t slot_of(std::string_view text, std::uint64_t hash) const;
  void grow();

  std::deque<std::string> texts_;
  std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> slots_;  // a power of two of them: number + 1, or 0 for none
};

}  // namespace shardplan::util
