#include "core/data/safetensors_layout.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <unordered_set>

#include "core/data/safetensors_dtypes.h"
#include "core/data/safetensors_file.h"
#include "core/util/little_endian.h"

namespace shardplan::data {
namespace {

void append_escaped(std::uint32_t unit, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[unit >> shift & 0xF];
}

/// Removes the first character of UTF-8 text, and returns its code point.
std::uint32_t next_code_point(std::string_view& text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const auto ones = static_cast<std::size_t>(std::countl_one(byte(0)));
  const std::size_t size = std::min(std::clamp<std::size_t>(ones, 1, 4), text.size());
  std::uint32_t code = byte(0) & (0xFFU >> (ones + 1));
  for (std::size_t at = 1; at < size; ++at) code = code << 6 | (byte(at) & 0x3FU);
  text.remove_prefix(size);
  return code;
}

}  // namespace

void append_json_string(std::string_view text, bool ascii, std::string& out) {
  constexpr std::uint32_t kSupplementary = 0x10000;
  out += '"';
  while (!text.empty()) {
    const char first = text.front();
    const auto byte = static_cast<unsigned char>(first);
    constexpr std::string_view kShort = "\"\"\\\\\bb\ff\nn\rr\tt";  // a character, and its escape
    std::size_t at = 0;
    while (at < kShort.size() && kShort[at] != first) at += 2;
    if (at < kShort.size()) {
      out += '\\';
      out += kShort[at + 1];
      text.remove_prefix(1);
    } else if (byte < 0x20 || (ascii && byte == 0x7F)) {
      append_escaped(byte, out);
      text.remove_prefix(1);
    } else if (byte < 0x80 || !ascii) {
      out += first;
      text.remove_prefix(1);
    } else if (const std::uint32_t code = next_code_point(text); code < kSupplementary) {
      append_escaped(code, out);
    } else {
      append_escaped(0xD800 + ((code - kSupplementary) >> 10), out);
      append_escaped(0xDC00 + ((code - kSupplementary) & 0x3FF), out);
    }
  }
  out += '"';
}

std::optional<SafetensorsLayout> lay_out_safetensors(
    std::span<const SafetensorsItem> items,
    std::span<const std::pair<std::string_view, std::string_view>> metadata) {
  std::vector<const SafetensorsDtype*> dtypes;
  std::unordered_set<std::string_view> names;
  for (const SafetensorsItem& item : items) {
    const auto* dtype = std::ranges::find(kSafetensorsDtypes, item.dtype, &SafetensorsDtype::torch);
    if (item.dtype.empty() || dtype == kSafetensorsDtypes.end() || !names.insert(item.name).second)
      return std::nullopt;
    dtypes.push_back(dtype);
  }
  SafetensorsLayout layout;
  layout.order.resize(items.size());
  std::iota(layout.order.begin(), layout.order.end(), std::size_t{0});
  std::ranges::sort(layout.order, [&](std::size_t one, std::size_t other) {
    if (dtypes[one] != dtypes[other]) return dtypes[one] > dtypes[other];
    return items[one].name < items[other].name;
  });

  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [name, value] : metadata) {
      if (json.back() != '{') json += ',';
      append_json_string(name, false, json);
      json += ':';
      append_json_string(value, false, json);
    }
    json += '}';
  }
  std::uint64_t end = 0;
  for (const std::size_t at : layout.order) {
    const SafetensorsItem& item = items[at];
    if (json.size() > 1) json += ',';
    append_json_string(item.name, false, json);
    json += ":{\"dtype\":\"";
    json += dtypes[at]->name;
    json += "\",\"shape\":[";
    for (const std::int64_t length : item.shape) {
      if (json.back() != '[') json += ',';
      json += std::to_string(length);
    }
    json += "],\"data_offsets\":[" + std::to_string(end) + ',';
    if (__builtin_add_overflow(end, item.size, &end)) return std::nullopt;
    json += std::to_string(end) + "]}";
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxSafetensorsHeader) return std::nullopt;
  util::append_little_endian(layout.header, json.size(), 8);
  layout.header += json;
  return layout;
}

}  // namespace shardplan::data
