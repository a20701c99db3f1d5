#include "core/data/safetensors_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "core/data/json_input.h"
#include "core/data/safetensors_dtypes.h"
#include "core/util/checked.h"
#include "core/util/text.h"

namespace shardplan::data {
namespace {

constexpr std::uint64_t kSizeBytes = 8;

std::string read_header(const PartBytes& bytes, std::uint64_t length) {
  if (length < kSizeBytes) {
    throw BadPart("is too short for a safetensors file: it has " + util::grouped(length) +
                  " bytes");
  }
  std::array<char, kSizeBytes> text{};
  read_part_bytes(bytes, 0, text.data(), text.size());
  std::uint64_t size = 0;
  for (std::size_t at = text.size(); at-- > 0;) {
    size = size << 8 | static_cast<unsigned char>(text[at]);
  }
  if (size > kMaxSafetensorsHeader || size > length - kSizeBytes) {
    throw BadPart("claims a header of " + util::grouped(size) + " bytes, at byte 0");
  }
  std::string header(static_cast<std::size_t>(size), '\0');
  read_part_bytes(bytes, kSizeBytes, header.data(), header.size());
  return header;
}

/// Reads the value of "__metadata__": strings by name, or null.
void skip_metadata(JsonInput& json) {
  if (json.skip_null()) return;
  json.read_object([&](std::string_view) { json.read_string(); });
}

/// Sets the strides of a contiguous tensor, and returns its number of elements.
std::optional<std::uint64_t> make_contiguous(StoredTensor& tensor) {
  tensor.strides.resize(tensor.shape.size());
  std::int64_t elements = 1;
  std::int64_t stride = 1;
  for (std::size_t dim = tensor.shape.size(); dim-- > 0;) {
    tensor.strides[dim] = stride;
    const std::int64_t size = tensor.shape[dim];
    if (!util::checked_mul(elements, size, elements) ||
        !util::checked_mul(stride, std::max<std::int64_t>(size, 1), stride)) {
      return std::nullopt;
    }
  }
  return static_cast<std::uint64_t>(elements);
}

/// Reads the description of a tensor. `data` is where the data of all tensors begin in the file.
SafetensorsEntry read_entry(JsonInput& json, std::string_view name, std::uint64_t data) {
  const std::uint64_t at = json.offset();
  const auto damaged = [&](const std::string& what) {
    return BadPart("has a tensor " + util::printable(name) + " " + what + ", at byte " +
                   util::grouped(at));
  };
  const SafetensorsDtype* dtype = nullptr;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::vector<std::int64_t>> range;
  json.read_object([&](std::string_view field) {
    if (field == "dtype" && dtype == nullptr) {
      const std::string text = json.read_string();
      const auto* found = std::ranges::find(kSafetensorsDtypes, text, &SafetensorsDtype::name);
      if (found == kSafetensorsDtypes.end())
        throw damaged("of unknown dtype " + util::printable(text));
      dtype = found;
    } else if (field == "shape" && !shape) {
      shape = json.read_numbers();
    } else if (field == "data_offsets" && !range) {
      range = json.read_numbers();
    } else {
      throw UnreadPart("is not a plain safetensors file: its tensor " + util::printable(name) +
                       " has a second or unknown field " + util::printable(field) + ", at byte " +
                       util::grouped(at));
    }
  });
  if (dtype == nullptr || !shape || !range) throw damaged("without dtype, shape or data_offsets");
  if (range->size() != 2 || (*range)[0] > (*range)[1]) {
    throw damaged("whose data_offsets are no range");
  }
  SafetensorsEntry entry;
  entry.tensor.dtype = dtype->torch;
  entry.tensor.element_size = dtype->bits / 8;
  entry.tensor.shape = std::move(*shape);
  const auto elements = make_contiguous(entry.tensor);
  std::uint64_t bits = 0;
  if (!elements || __builtin_mul_overflow(*elements, dtype->bits, &bits)) {
    throw damaged("whose size does not fit 64 bits");
  }
  const auto size = static_cast<std::uint64_t>((*range)[1] - (*range)[0]);
  if (bits % 8 != 0 || bits / 8 != size) {
    throw damaged("of " + util::grouped(bits) + " bits in " + util::grouped(size) + " bytes");
  }
  // Both are below 2^63 and below 2^27, respectively.
  entry.begin = data + static_cast<std::uint64_t>((*range)[0]);
  entry.tensor.storage_size = entry.tensor.reach = size;
  return entry;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const PartBytes& bytes, std::uint64_t length) {
  const std::string header = read_header(bytes, length);
  const std::uint64_t data = kSizeBytes + header.size();
  JsonInput json(header, kSizeBytes);
  bool has_metadata = false;
  json.read_object([&](std::string_view name) {
    if (name == "__metadata__" && !std::exchange(has_metadata, true)) {
      skip_metadata(json);
      return;
    }
    const std::uint64_t at = json.offset();
    if (names_.number_of(name) != entries_.size()) {
      throw UnreadPart("is not a plain safetensors file: it has two tensors " +
                       util::printable(name) + ", the second at byte " + util::grouped(at));
    }
    entries_.push_back(read_entry(json, name, data));
  });
  json.expect_end();
  check_layout(data, length);
}

/// Throws BadPart unless the data of the tensors follow each other, from `begin` to `length`.
void SafetensorsFile::check_layout(std::uint64_t begin, std::uint64_t length) const {
  std::vector<std::size_t> order(entries_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t at) {
    return std::pair(entries_[at].begin, entries_[at].tensor.reach);
  });
  for (const std::size_t at : order) {
    const SafetensorsEntry& entry = entries_[at];
    if (entry.begin != begin) {
      throw BadPart("has a tensor " + util::printable(names_[at]) + " at byte " +
                    util::grouped(entry.begin) + ", and the bytes before it end at byte " +
                    util::grouped(begin));
    }
    begin += entry.tensor.reach;
    if (begin > length) break;
  }
  if (begin != length) {
    throw BadPart("has " + util::grouped(length) + " bytes, and its tensors end at byte " +
                  util::grouped(begin));
  }
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto entry = names_.find(name);
  return entry ? &entries_[*entry] : nullptr;
}

}  // namespace shardplan::data
