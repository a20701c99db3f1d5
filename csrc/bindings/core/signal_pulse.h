#pragma once

#include <pybind11/pybind11.h>

#include "core/util/pulse.h"

namespace shardplan::bindings {

/// Stops work that runs without the interpreter where a signal says so: Python's handlers run, and
/// what they raise (KeyboardInterrupt) is thrown.
inline util::Pulse signal_pulse() {
  return util::Pulse([] {
    const pybind11::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  });
}

}  // namespace shardplan::bindings
