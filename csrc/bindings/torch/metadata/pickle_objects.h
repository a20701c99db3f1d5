#pragma once

#include <unordered_map>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/pickle/machine.h"

namespace shardplan::bindings {

/// Creates the Python objects of a decoded pickle. Only classes that checkpoint metadata uses are
/// instantiated, and nothing else that the file names is imported or called.
class PickleObjects {
 public:
  explicit PickleObjects(const pickle::Values& values, const util::TextTable& texts)
      : values_(values), texts_(texts), text_objects_(texts.size()) {}

  /// Returns the object of a value; the same value always gives the same object. Throws BadPickle.
  py::object object(pickle::Value value);

  /// Sets the object of a value, before it is created.
  void preset(pickle::Value value, py::object object);

  /// Returns a string of the pickle.
  const py::object& text(std::size_t number);

  /// Throws BadPickle if a string of the pickle, used or not, is not UTF-8.
  void check_texts();

  /// Creates the object of a kObject value without its state.
  py::object bare(pickle::Value value);

  /// Sets an attribute in the dict of the object, as unpickling does, so that names such as
  /// __class__ have no effect.
  void set(const py::object& object, pickle::Value name, const py::object& attribute);

 private:
  py::object make(pickle::Value value);
  py::object make_int(pickle::Value value) const;
  py::object make_container(pickle::Value value);
  py::object make_object(pickle::Value value);
  py::object make_call(pickle::Value value);
  py::object make_index(pickle::Value value);
  py::object make_location(pickle::Value value);
  py::object make_chunk(pickle::Value value) const;
  /// Counts an attribute to set. Many objects can share one state, so that the number of attributes
  /// can be quadratic in the size of the file. Throws BadPickle above a generous limit.
  void count_attribute();
  py::list items(pickle::Value container);
  py::object global(std::uint32_t number);
  py::object constant(std::string_view name) const;

  const pickle::Values& values_;
  const util::TextTable& texts_;
  std::vector<py::object> text_objects_;
  std::unordered_map<std::uint64_t, py::object> made_;  // by tag and index of the value
  int depth_ = 0;
  std::size_t attributes_ = 0;
};

}  // namespace shardplan::bindings
