#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/data/zip_part.h"

namespace shardplan::data {

/// A plain strided tensor as torch.save wrote it: what it is, and where its bytes lie in the part.
struct StoredTensor {
  std::string dtype;  // as float32
  std::uint64_t element_size = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements, one a dim, none below 0
  std::int64_t storage_offset = 0;    // in elements
  std::string storage_key;
  std::string device;  // that it was on, as cuda:0
  bool is_parameter = false;
  bool requires_grad = false;
  bool big_endian = false;

  // In bytes of the part. Element (i, j, ...) begins at `begin` and element_size times the sum of
  // its indices times the strides, and lies within the `reach` bytes from `begin` on, which lie
  // within the storage. A tensor of no element reaches no byte, and begins where its storage does.
  std::uint64_t storage_begin = 0;
  std::uint64_t storage_size = 0;
  std::uint64_t begin = 0;
  std::uint64_t reach = 0;
};

/// The most bytes of the pickle of a tensor. It takes some 200, and 10 to 20 a dim.
inline constexpr std::uint64_t kMaxTensorPickle = std::uint64_t{1} << 20;

/// What a part that torch.save wrote of one tensor says of it; nothing that it names is called.
/// Throws BadPart where it is damaged, and UnreadPart ("is not a plain tensor: ...") for what is
/// quantized, sparse, of a subclass, lazily conjugated, within a container, or no tensor.
///
/// Memory and time grow with the bytes of its pickle. No checksum is looked at.
StoredTensor read_tensor_part(const PartBytes& bytes, const ZipPart& part);

}  // namespace shardplan::data
