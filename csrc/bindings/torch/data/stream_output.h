#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include "bindings/common/python_object.h"
#include "core/data/file.h"

namespace shardplan::bindings {

/// Thrown if the function of a StreamOutput raises an Exception.
class FailedStream : public std::runtime_error {
 public:
  explicit FailedStream(const py::error_already_set& raised)
      : std::runtime_error(raised.what()), raised_(raised) {}

  /// Returns the exception, with its traceback. Called with the GIL.
  py::object exception() const { return exception_of(raised_); }

 private:
  py::error_already_set raised_;
};

/// A Python stream. Takes the GIL to write.
class StreamOutput final : public data::Output {
 public:
  /// write: called with a memoryview, which is invalid after the call. What it returns is ignored,
  ///        as by torch.save. Must outlive this object.
  explicit StreamOutput(const py::object& write) : write_(write) {}

  /// Ignores the offset: the stream is there. Throws FailedStream, or error_already_set if what was
  /// raised is no Exception.
  void write_at(std::uint64_t offset, const char* bytes, std::size_t count) const override;

  bool is_sequential() const override { return true; }

 private:
  const py::object& write_;
};

/// Returns the output for the descriptor of a local file or the function `write` of a stream, which
/// has to outlive it. Throws TypeError for anything else.
std::unique_ptr<const data::Output> output_of(const py::object& file);

}  // namespace shardplan::bindings
