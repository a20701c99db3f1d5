#include <pybind11/pybind11.h>

#include "bindings/core/register.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The kernels of csrc/core, on plain numbers. Does not need torch.";
  shardplan::bindings::register_kernels(m);
  shardplan::bindings::register_diagnosis(m);
  shardplan::bindings::register_checkpoint(m);
  shardplan::bindings::register_simulation(m);
  shardplan::bindings::register_part(m);
}
