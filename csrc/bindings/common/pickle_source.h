#pragma once

#include "bindings/common/python_object.h"
#include "core/pickle/machine.h"

namespace shardplan::bindings {

/// Returns a source that reads from a stream's `readinto`. It acquires the GIL for each block.
inline pickle::Source source_of(const py::object& readinto) {
  return [&readinto](char* into, std::size_t at_most) {
    const py::gil_scoped_acquire lock;
    const auto view = py::memoryview::from_memory(into, static_cast<py::ssize_t>(at_most));
    const py::object got = readinto(view);
    view.attr("release")();
    std::int64_t count = 0;
    if (!read_int(got.ptr(), count) || count < 0)
      throw pickle::BadPickle("is from a stream whose readinto does not return a number of bytes");
    return static_cast<std::size_t>(count);
  };
}

}  // namespace shardplan::bindings
