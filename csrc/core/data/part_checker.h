#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "core/data/file.h"
#include "core/data/file_window.h"
#include "core/data/read_schedule.h"
#include "core/data/tensor_part.h"

namespace shardplan::data {

/// Part of a file, as the metadata of its checkpoint describes it.
struct ExpectedPart {
  std::uint64_t begin = 0;  // bytes of the part in the file
  std::uint64_t length = 0;
  bool is_tensor = false;
  std::span<const std::int64_t> shape;  // of a tensor
  std::string_view dtype;               // of a tensor; empty if it is unknown

  /// Returns the end of the part, or the maximum if it does not fit.
  std::uint64_t end() const;
};

/// Checks parts of files. Each thread has its own.
class PartChecker {
 public:
  /// interrupt(): called before each block that is read. An exception ends the check.
  PartChecker(const ReadSizes& sizes, std::function<void()> interrupt)
      : sizes_(sizes), interrupt_(std::move(interrupt)) {}

  /// Parts are in this source from now on.
  void open(std::shared_ptr<const Source> source);

  /// Reads neighbouring parts into memory, or the ends of a part of more than `max_block` bytes.
  void keep(std::uint64_t begin, std::uint64_t length);

  /// Returns whether a part is a zip file with checksums, all of which are right, and, if it is a
  /// tensor, has the shape and dtype. Reads it once, in time and memory that are bounded by its
  /// length. Sets `stored` if it is a tensor.
  bool is_sound(const ExpectedPart& part, StoredTensor& stored);

  /// Returns bytes of the source, which stay until the next call of a member. Throws FailedRead.
  const char* bytes(std::uint64_t offset, std::size_t count) {
    return window_.bytes(offset, count);
  }

  /// Frees the memory of parts that the source has lent.
  void release();

 private:
  const ReadSizes& sizes_;
  std::function<void()> interrupt_;
  std::shared_ptr<const Source> source_;
  FileWindow window_;
  TensorPartReader tensors_;
};

}  // namespace shardplan::data
