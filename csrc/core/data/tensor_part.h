#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/data/zip_part.h"

namespace shardplan::data {

/// Plain strided tensor written by torch.save, and the location of its bytes in the part.
struct StoredTensor {
  std::string dtype;  // e.g. "float32"
  std::uint64_t element_size = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements, one per dim, all >= 0
  std::int64_t storage_offset = 0;    // in elements
  std::string storage_key;
  std::string device;  // at the time of the save, e.g. "cuda:0"
  bool is_parameter = false;
  bool requires_grad = false;
  bool big_endian = false;

  // Byte offsets in the part, and sizes in bytes. Element (i, j, ...) is at `begin` +
  // element_size * (i * strides[0] + j * strides[1] + ...). All elements are within [begin, begin +
  // reach), which is within the storage. A tensor without elements has `begin` = `storage_begin`
  // and `reach` = 0.
  std::uint64_t storage_begin = 0;
  std::uint64_t storage_size = 0;
  std::uint64_t begin = 0;
  std::uint64_t reach = 0;
};

/// Maximum size in bytes of the pickle of a tensor. Usual ones have about 200, plus 10 to 20 per
/// dim.
inline constexpr std::uint64_t kMaxTensorPickle = std::uint64_t{1} << 20;

/// Reads the descriptions of stored tensors. Tensors that were saved with equal pickles, as those
/// of one dtype, shape and device usually are, are parsed once. Not thread-safe.
class TensorPartReader {
 public:
  /// Returns the description of the single tensor that torch.save wrote to a part. Nothing that the
  /// part names is imported or called. Throws BadPart if the part is damaged, and UnreadPart ("is
  /// not a plain tensor: ...") if it holds a quantized, sparse, subclassed or lazily conjugated
  /// tensor, a container, or another object.
  ///
  /// Memory and time are linear in the size of the pickle. Checksums are not verified.
  StoredTensor read(const PartBytes& bytes, const ZipPart& part);

 private:
  /// A pickle without its location.
  struct Parsed {
    StoredTensor tensor;
    std::uint64_t storage_bytes = 0;
  };
  Parsed parse(const PartBytes& bytes, const ZipMember& pickle);

  std::unordered_map<std::string, Parsed> parsed_;  // by the bytes of the pickle
};

/// Reads the description of one part; see TensorPartReader.
StoredTensor read_tensor_part(const PartBytes& bytes, const ZipPart& part);

}  // namespace shardplan::data
