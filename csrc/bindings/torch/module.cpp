#include <pybind11/pybind11.h>

#include "bindings/torch/register.h"

PYBIND11_MODULE(_torch, m) {
  m.doc() = "The core over the objects of torch: built for one torch minor and one Python.";
  shardplan::bindings::register_boxes(m);
  shardplan::bindings::register_plans(m);
  shardplan::bindings::register_queries(m);
  shardplan::bindings::register_storage(m);
  shardplan::bindings::register_wire(m);
}
