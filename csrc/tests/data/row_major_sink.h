#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/load_execution.h"

namespace shardplan::testing {

/// Sink that copies elements of float32 to row-major targets of the same dtype.
class RowMajorSink final : public data::StagingSink {
 public:
  RowMajorSink(const std::vector<data::ReadRequest>& requests, std::vector<std::string>& targets,
               std::size_t capacity)
      : requests_(requests), targets_(targets), bytes_(capacity, '\0') {}

  bool accepts(std::size_t, std::string_view dtype) const override { return dtype == "float32"; }
  std::size_t capacity() const override { return bytes_.size(); }
  char* buffer(std::size_t) override { return bytes_.data(); }
  void copy(std::size_t request, std::string_view, const data::BoxPiece& piece) override {
    std::int64_t begin = 0;
    std::int64_t count = 1;
    std::int64_t stride = 1;
    for (std::size_t dim = piece.lengths.size(); dim-- > 0;) {
      begin += piece.offsets[dim] * stride;
      count *= piece.lengths[dim];
      stride *= requests_[request].lengths[dim];
    }
    const std::size_t size = static_cast<std::size_t>(count) * 4;
    targets_[request].replace(static_cast<std::size_t>(begin) * 4, size, bytes_, 0, size);
  }
  void finish() override {}

 private:
  const std::vector<data::ReadRequest>& requests_;
  std::vector<std::string>& targets_;
  std::string bytes_;
};

}  // namespace shardplan::testing
