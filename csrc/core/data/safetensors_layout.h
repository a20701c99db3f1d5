#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shardplan::data {

/// A contiguous tensor that is to be in a safetensors file.
struct SafetensorsItem {
  std::string_view name;   // UTF-8
  std::string_view dtype;  // torch's name, without "torch."
  std::span<const std::int64_t> shape;
  std::uint64_t size = 0;  // in bytes
};

/// The bytes of a safetensors file before the data of its tensors, and the order of these data.
struct SafetensorsLayout {
  std::string header;
  std::vector<std::size_t> order;  // indexes of the items
};

/// Lays out a file as the safetensors library does: tensors by the alignment of their dtype, and
/// then by name. Returns nothing if it could not write the file, or not read it again: a dtype is
/// unknown, two items have one name, or the header is too large.
///
/// metadata: names and values of "__metadata__", in the order in which they are written
std::optional<SafetensorsLayout> lay_out_safetensors(
    std::span<const SafetensorsItem> items,
    std::span<const std::pair<std::string_view, std::string_view>> metadata);

/// Appends UTF-8 text as a JSON string. If `ascii`, other characters are escaped, as by Python's
/// json.dumps; otherwise they are written as they are, as by the safetensors library.
void append_json_string(std::string_view text, bool ascii, std::string& out);

}  // namespace shardplan::data
