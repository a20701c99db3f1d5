#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/zip_part.h"

namespace shardplan::data {

/// Reads the JSON text of a header from begin to end, as far as such headers need it: objects,
/// strings, arrays of non-negative integers, and null. Throws BadPart, with the byte, for any other
/// text.
class JsonInput {
 public:
  /// `text` must outlive the object. Its first byte is the byte `first` in error messages.
  JsonInput(std::string_view text, std::uint64_t first) : text_(text), first_(first) {}

  /// Returns the next byte, as error messages name it.
  std::uint64_t offset() const { return first_ + at_; }

  /// Reads an object. Calls `visit(key)` for each of its keys, which must read the value.
  template <class Visit>
  void read_object(Visit&& visit) {
    expect('{');
    if (skip('}')) return;
    do {
      const std::string key = read_string();
      expect(':');
      visit(std::string_view(key));
    } while (skip(','));
    expect('}');
  }

  /// Returns a string as UTF-8.
  std::string read_string();
  /// Returns an array of integers from 0 to 2^63 - 1.
  std::vector<std::int64_t> read_numbers();
  /// Reads null if it comes next, and returns whether it did.
  bool skip_null();
  /// Throws BadPart unless only white space is left.
  void expect_end();

 private:
  [[noreturn]] void fail(const char* what) const;
  void skip_space();
  bool skip(char wanted);
  void expect(char wanted);
  std::int64_t read_number();
  void read_escape(std::string& into);
  std::uint32_t read_code_unit();
  void read_utf8(std::string& into);

  std::string_view text_;
  std::uint64_t first_;
  std::size_t at_ = 0;
};

}  // namespace shardplan::data
