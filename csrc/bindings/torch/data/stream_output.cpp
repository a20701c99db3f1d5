#include "bindings/torch/data/stream_output.h"

namespace shardplan::bindings {

void StreamOutput::write_at(std::uint64_t /*offset*/, const char* bytes, std::size_t count) const {
  if (count == 0) return;
  const py::gil_scoped_acquire lock;
  const auto view = py::memoryview::from_memory(bytes, static_cast<py::ssize_t>(count));
  try {
    write_(view);
    // The bytes change after this call. A stream that has kept the view gets an error later.
    view.attr("release")();
  } catch (const py::error_already_set& raised) {
    if (!raised.matches(PyExc_Exception)) throw;
    throw FailedStream(raised);
  }
}

std::unique_ptr<const data::Output> output_of(const py::object& file) {
  if (PyLong_Check(file.ptr())) return std::make_unique<data::OutputFile>(file.cast<int>());
  if (PyCallable_Check(file.ptr()) == 0) {
    throw py::type_error("a file is a descriptor or the write function of a stream");
  }
  return std::make_unique<StreamOutput>(file);
}

}  // namespace shardplan::bindings
