#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "bindings/common/python_object.h"
#include "core/data/file.h"

namespace shardplan::bindings {

/// Thrown if the function of a RangeSource raises an Exception.
class FailedRange final : public data::FailedRead {
 public:
  /// Constructs with the GIL. The message is the type of the exception and its text.
  explicit FailedRange(const py::error_already_set& raised);

  /// Returns the exception with its traceback. Called with the GIL.
  py::object exception() const { return exception_of(raised_); }

 private:
  py::error_already_set raised_;
};

/// File whose ranges of bytes a Python function reads. Takes the GIL for each call.
class RangeSource final : public data::Source {
 public:
  /// read_range(path, begin, end): returns an object with the buffer protocol, which is shorter
  /// than `end - begin` only at the end of the file. Must outlive the source.
  RangeSource(const py::object& read_range, std::string path)
      : read_range_(read_range), path_(std::move(path)) {}

  /// Throw FailedRange, and py::error_already_set for KeyboardInterrupt and the like.
  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override;
  std::optional<data::LentBytes> lend(std::uint64_t offset, std::size_t count) const override;

 private:
  const py::object& read_range_;
  std::string path_;
};

/// Returns a local file if `read_range` is None, or else one whose ranges it reads. Throws
/// std::system_error.
std::shared_ptr<const data::Source> open_source(std::string path, const py::object& read_range);

}  // namespace shardplan::bindings
