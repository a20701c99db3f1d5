#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "bindings/common/python_object.h"
#include "core/data/file.h"

namespace shardplan::bindings {

/// File whose ranges of bytes a Python function reads. Takes the GIL for each call.
class RangeSource final : public data::Source {
 public:
  /// read_range(path, begin, end): returns an object with the buffer protocol, which is shorter
  /// than `end - begin` only at the end of the file. Must outlive the source.
  RangeSource(const py::object& read_range, std::string path)
      : read_range_(read_range), path_(std::move(path)) {}

  /// Throws the function's exceptions as py::error_already_set.
  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override;
  std::optional<data::LentBytes> lend(std::uint64_t offset, std::size_t count) const override;

 private:
  const py::object& read_range_;
  std::string path_;
};

}  // namespace shardplan::bindings
