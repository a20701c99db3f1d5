#pragma once

#include <unordered_map>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/pickle/machine.h"

namespace shardplan::bindings {

/// Makes the Python objects of a pickle that was read: of the classes that the reader knows and no
/// others, without calling what the file names.
class PickleObjects {
 public:
  explicit PickleObjects(const pickle::Values& values, const util::TextTable& texts)
      : values_(values), texts_(texts), text_objects_(texts.size()) {}

  /// The object of a value; what the pickle shares is shared. Throws BadPickle.
  py::object object(pickle::Value value);

  /// Throws BadPickle where a text is none, used or not.
  void check_texts();

  /// The object of a kObject, without the state that the pickle gives it.
  py::object bare(pickle::Value value);

  /// Gives an object an attribute, as unpickling does: into its dict, so that an attribute of its
  /// class, such as __class__, stays.
  void set(const py::object& object, pickle::Value name, const py::object& attribute);

 private:
  const py::object& text(std::size_t number);
  py::object make(pickle::Value value);
  py::object make_int(pickle::Value value) const;
  py::object make_container(pickle::Value value);
  py::object make_object(pickle::Value value);
  py::object make_call(pickle::Value value);
  py::object make_index(pickle::Value value);
  py::object make_place(pickle::Value value);
  py::object make_chunk(pickle::Value value) const;
  /// Counts an attribute that an object gets. Many objects can share one state, so that what is
  /// made of them could be quadratic in the file: throws BadPickle far above what files need.
  void count_attribute();
  py::list items(pickle::Value container);
  py::object global(std::uint32_t number);
  py::object constant(std::string_view name) const;

  const pickle::Values& values_;
  const util::TextTable& texts_;
  std::vector<py::object> text_objects_;
  std::unordered_map<std::uint64_t, py::object> made_;  // by tag and place
  int depth_ = 0;
  std::size_t attributes_ = 0;
};

}  // namespace shardplan::bindings
