#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "bindings/common/python_object.h"
#include "bindings/torch/wire/wire_release.h"
#include "core/wire/bytes.h"
#include "core/wire/envelope.h"

namespace shardplan::bindings {

/// The bytes of an object that another rank sent. The envelope is opened, and its checksum
/// verified, once. Construction never throws for what the bytes hold, because DCP unpickles where
/// an exception would leave the other ranks waiting; the first use reports the problem.
class ReceivedBytes {
 public:
  /// Number of items; 1 if the bytes are broken, so that no caller takes them for an empty list.
  std::size_t size() const { return problem_.empty() ? contents_.items : 1; }

  const py::bytes& bytes() const { return bytes_; }

 protected:
  ReceivedBytes(wire::WireKind kind, py::bytes bytes) : bytes_(std::move(bytes)) {
    read([&](const wire::Envelope&) {
      contents_ = wire::open(kind, kRelease, std::string_view(bytes_));
    });
  }

  /// Calls `decode` with the envelope, unless an earlier call has found the bytes broken. Returns
  /// false if they are broken; `problem` then says why.
  template <typename Decode>
  bool read(const Decode& decode) {
    if (!problem_.empty()) return false;
    try {
      decode(contents_);
    } catch (const wire::BadWire& problem) {
      problem_ = problem.what();
    }
    return problem_.empty();
  }

  /// Marks the bytes as broken.
  void refuse(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }

  /// Continues a sentence whose subject is "it".
  const std::string& problem() const { return problem_; }

  /// Frees the bytes, once they are decoded; `size` stays.
  void release() {
    contents_.table = contents_.rows = {};
    bytes_ = py::bytes();
  }

 private:
  py::bytes bytes_;
  wire::Envelope contents_;  // points into bytes_
  std::string problem_;
};

}  // namespace shardplan::bindings
