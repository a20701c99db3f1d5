#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shardplan::util {

/// Table of distinct strings, numbered from 0 in order of insertion.
class TextTable {
 public:
  /// Returns the number of `text`; adds it if it is new. Throws std::length_error at 2^32 texts.
  std::uint32_t number_of(std::string_view text);

  /// Returns the number of `text`, or nullopt if it is not in the table.
  std::optional<std::uint32_t> find(std::string_view text) const;

  std::size_t size() const { return texts_.size(); }
  std::string_view operator[](std::size_t number) const { return texts_[number]; }

 private:
  std::size_t slot_of(std::string_view text, std::uint64_t hash) const;
  void grow();

  std::deque<std::string> texts_;
  std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> slots_;  // open addressing, size 2^n: number + 1, or 0 if free
};

}  // namespace shardplan::util
