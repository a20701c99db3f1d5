#include <pybind11/pybind11.h>

#include "bindings/torch/register.h"

PYBIND11_MODULE(_torch, m) {
  m.doc() =
      "The core on the objects of torch. Built for one minor version of torch and one of Python.";
  shardplan::bindings::register_boxes(m);
  shardplan::bindings::register_data(m);
  shardplan::bindings::register_plans(m);
  shardplan::bindings::register_queries(m);
  shardplan::bindings::register_storage(m);
  shardplan::bindings::register_wire(m);
}
