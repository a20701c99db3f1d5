#include <pybind11/pybind11.h>

#include "bindings/core/register.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The kernels of csrc/core on plain numbers: no torch in it.";
  shardplan::register_kernels(m);
  shardplan::register_diagnosis(m);
  shardplan::register_checkpoint(m);
  shardplan::register_simulation(m);
  shardplan::register_part(m);
}
