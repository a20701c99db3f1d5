#include "core/data/json_input.h"

#include <array>

#include "core/util/checked.h"
#include "core/util/text.h"

namespace shardplan::data {
namespace {

constexpr bool is_digit(char text) {
  return text >= '0' && text <= '9';
}

/// First code point that takes as many bytes of UTF-8, by the number of bytes.
constexpr std::array<std::uint32_t, 5> kFirstOfLength{0, 0, 0x80, 0x800, 0x10000};

constexpr std::uint32_t kFirstSurrogate = 0xD800;
constexpr std::uint32_t kFirstLowSurrogate = 0xDC00;
constexpr std::uint32_t kLastSurrogate = 0xDFFF;

bool is_surrogate(std::uint32_t code_point) {
  return code_point >= kFirstSurrogate && code_point <= kLastSurrogate;
}

/// Appends a code point below 0x110000, as UTF-8.
void append(std::string& into, std::uint32_t code_point) {
  if (code_point < 0x80) {
    into.push_back(static_cast<char>(code_point));
    return;
  }
  int more = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  constexpr std::array<std::uint32_t, 4> kLead{0, 0xC0, 0xE0, 0xF0};
  into.push_back(static_cast<char>(kLead[static_cast<std::size_t>(more)] | code_point >> 6 * more));
  while (more-- > 0) into.push_back(static_cast<char>(0x80 | (code_point >> 6 * more & 0x3F)));
}

}  // namespace

void JsonInput::fail(const char* what) const {
  throw BadPart(std::string("has a header with ") + what + " at byte " + util::grouped(offset()));
}

void JsonInput::skip_space() {
  const std::size_t next = text_.find_first_not_of(" \t\n\r", at_);
  at_ = next == std::string_view::npos ? text_.size() : next;
}

bool JsonInput::skip(char wanted) {
  skip_space();
  if (at_ == text_.size() || text_[at_] != wanted) return false;
  ++at_;
  return true;
}

void JsonInput::expect(char wanted) {
  if (!skip(wanted)) fail((std::string("no '") + wanted + "'").c_str());
}

void JsonInput::expect_end() {
  skip_space();
  if (at_ != text_.size()) fail("more than an object");
}

bool JsonInput::skip_null() {
  constexpr std::string_view kNull = "null";
  skip_space();
  if (!text_.substr(at_).starts_with(kNull)) return false;
  at_ += kNull.size();
  return true;
}

std::string JsonInput::read_string() {
  expect('"');
  std::string read;
  for (;;) {
    if (at_ == text_.size()) fail("a string without end");
    const auto next = static_cast<unsigned char>(text_[at_]);
    if (next == '"') {
      ++at_;
      return read;
    }
    if (next == '\\') {
      read_escape(read);
    } else if (next < 0x20) {
      fail("a control character");
    } else if (next < 0x80) {
      read.push_back(text_[at_++]);
    } else {
      read_utf8(read);
    }
  }
}

void JsonInput::read_escape(std::string& into) {
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  const char name = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
  if (const std::size_t known = kNames.find(name); known != std::string_view::npos) {
    into.push_back(kValues[known]);
    at_ += 2;
    return;
  }
  if (name != 'u') fail("an unknown escape");
  std::uint32_t code_point = read_code_unit();
  if (is_surrogate(code_point)) {
    const bool is_high = code_point < kFirstLowSurrogate;
    if (!is_high || !text_.substr(at_).starts_with("\\u")) fail("half a surrogate pair");
    const std::uint32_t low = read_code_unit();
    if (low < kFirstLowSurrogate || low > kLastSurrogate) fail("half a surrogate pair");
    code_point = 0x10000 + ((code_point - kFirstSurrogate) << 10) + (low - kFirstLowSurrogate);
  }
  append(into, code_point);
}

/// Reads "\uXXXX", of which the first two characters have been checked.
std::uint32_t JsonInput::read_code_unit() {
  constexpr std::size_t kDigits = 4;
  at_ += 2;
  std::uint32_t unit = 0;
  for (std::size_t digit = 0; digit < kDigits; ++digit, ++at_) {
    const char next = at_ < text_.size() ? text_[at_] : '\0';
    if (is_digit(next)) {
      unit = unit << 4 | static_cast<std::uint32_t>(next - '0');
    } else if (const char lower = static_cast<char>(next | 0x20); lower >= 'a' && lower <= 'f') {
      unit = unit << 4 | static_cast<std::uint32_t>(lower - 'a' + 10);
    } else {
      fail("an escape that is not hexadecimal");
    }
  }
  return unit;
}

/// Reads a code point that is not ASCII.
void JsonInput::read_utf8(std::string& into) {
  const auto lead = static_cast<unsigned char>(text_[at_]);
  const std::size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length == 1 || lead >= 0xF8 || length > text_.size() - at_) fail("invalid UTF-8");
  std::uint32_t code_point = lead & (0x7FU >> length);
  for (std::size_t at = 1; at < length; ++at) {
    const auto next = static_cast<unsigned char>(text_[at_ + at]);
    if ((next & 0xC0U) != 0x80) fail("invalid UTF-8");
    code_point = code_point << 6 | (next & 0x3FU);
  }
  if (code_point < kFirstOfLength[length] || code_point > 0x10FFFF || is_surrogate(code_point)) {
    fail("invalid UTF-8");
  }
  into.append(text_.substr(at_, length));
  at_ += length;
}

std::int64_t JsonInput::read_number() {
  skip_space();
  const std::size_t begin = at_;
  std::int64_t number = 0;
  while (at_ < text_.size() && is_digit(text_[at_])) {
    if (!util::checked_mul(number, 10, number) ||
        !util::checked_add(number, text_[at_] - '0', number)) {
      fail("a number that does not fit 64 bits");
    }
    ++at_;
  }
  if (at_ == begin || (text_[begin] == '0' && at_ > begin + 1)) fail("no valid number");
  return number;
}

std::vector<std::int64_t> JsonInput::read_numbers() {
  std::vector<std::int64_t> numbers;
  expect('[');
  if (skip(']')) return numbers;
  do numbers.push_back(read_number());
  while (skip(','));
  expect(']');
  return numbers;
}

}  // namespace shardplan::data
