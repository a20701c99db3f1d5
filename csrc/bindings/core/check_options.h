#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "bindings/common/python_object.h"
#include "core/data/part_check.h"

namespace shardplan::bindings {

/// Returns the options of a check of parts. progress(bytes): called with the GIL, after Python's
/// signal handlers; must outlive the options.
inline data::CheckOptions check_options(std::size_t threads, bool is_local,
                                        const py::object& progress) {
  data::CheckOptions options;
  options.threads = std::max<std::size_t>(1, threads);
  if (!is_local) options.sizes = data::request_sizes(data::kMaxCheckRequest);
  options.progress = [&progress](std::uint64_t done) {
    const py::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    progress(done);
  };
  return options;
}

}  // namespace shardplan::bindings
