#pragma once

#include <pybind11/pybind11.h>

#include "core/util/pulse.h"

namespace shardplan::bindings {

/// Returns a pulse that runs Python's signal handlers, for work without the GIL. It throws the
/// exceptions of the handlers, such as KeyboardInterrupt.
inline util::Pulse signal_pulse() {
  return util::Pulse([] {
    const pybind11::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  });
}

}  // namespace shardplan::bindings
