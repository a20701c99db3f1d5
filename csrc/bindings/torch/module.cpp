#include <pybind11/pybind11.h>

#include "bindings/torch/register.h"

PYBIND11_MODULE(_torch, m) {
  m.doc() = "The core over the objects of torch: built for one torch minor and one Python.";
  shardplan::register_boxes(m);
  shardplan::register_plans(m);
  shardplan::register_looks(m);
  shardplan::register_storage(m);
  shardplan::register_wire(m);
}
