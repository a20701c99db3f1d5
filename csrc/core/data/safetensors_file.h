#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/data/tensor_part.h"
#include "core/data/zip_part.h"
#include "core/util/string_table.h"

namespace shardplan::data {

/// Maximum size in bytes of the header of a safetensors file. The safetensors library rejects
/// larger ones.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

/// Tensor of a safetensors file. It is contiguous, and takes `tensor.reach` bytes.
struct SafetensorsEntry {
  std::uint64_t begin = 0;  // byte offset in the file
  /// `begin` of the description is 0, and its dtype is empty if torch has none of this name.
  StoredTensor tensor;
};

/// Header of a safetensors file: 8 bytes with a size, and a JSON object of that size, which has the
/// dtype, the shape and the bytes of each tensor. The data of the tensors fill the rest of the
/// file.
class SafetensorsFile {
 public:
  /// Reads the header of a file of `length` bytes. Throws BadPart if the file is damaged, and
  /// UnreadPart if it has a field that the format does not define, or a name twice.
  ///
  /// Memory and time are linear in the size of the header (and a sort), whatever sizes it claims.
  SafetensorsFile(const PartBytes& bytes, std::uint64_t length);

  /// Returns the tensor of a name, or null. The pointer is valid as long as this object.
  const SafetensorsEntry* find(std::string_view name) const;

  /// Returns all tensors, in the order of the header.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  std::string_view name(std::size_t entry) const { return names_[entry]; }

 private:
  void check_layout(std::uint64_t begin, std::uint64_t length) const;

  std::vector<SafetensorsEntry> entries_;
  util::TextTable names_;
};

}  // namespace shardplan::data
