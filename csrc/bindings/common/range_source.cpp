#include "bindings/common/range_source.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace shardplan::bindings {
namespace {

/// View of an object's bytes. Taken and released with the GIL.
class Buffer {
 public:
  explicit Buffer(const py::object& object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) {
      throw py::error_already_set();
    }
  }
  ~Buffer() {
    const py::gil_scoped_acquire lock;
    PyBuffer_Release(&view_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  const char* data() const { return static_cast<const char*>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_{};
};

}  // namespace

FailedRange::FailedRange(const py::error_already_set& raised)
    : FailedRead(raised.what()), raised_(raised) {}

std::optional<data::LentBytes> RangeSource::lend(std::uint64_t offset, std::size_t count) const {
  constexpr auto kMaxOffset = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (offset > kMaxOffset || count > kMaxOffset - offset) return data::LentBytes{};
  const py::gil_scoped_acquire lock;
  try {
    const py::object bytes = read_range_(path_, offset, offset + count);
    const auto buffer = std::make_shared<Buffer>(bytes);
    return data::LentBytes{buffer, buffer->data(), std::min(buffer->size(), count)};
  } catch (const py::error_already_set& raised) {
    if (!raised.matches(PyExc_Exception)) throw;
    throw FailedRange(raised);
  }
}

std::shared_ptr<const data::Source> open_source(std::string path, const py::object& read_range) {
  if (read_range.is_none()) return std::make_shared<data::File>(path);
  return std::make_shared<RangeSource>(read_range, std::move(path));
}

std::size_t RangeSource::read_at(std::uint64_t offset, char* into, std::size_t count) const {
  const data::LentBytes bytes = *lend(offset, count);
  if (bytes.size != 0) std::memcpy(into, bytes.data, bytes.size);
  return bytes.size;
}

}  // namespace shardplan::bindings
