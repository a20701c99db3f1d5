#pragma once

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// Writes the pickle of a Metadata. Columns are written natively, without frames of Python; every
/// other part is pickled by `pickle` and copied in.
///
/// write(bytes):                  as of a binary file
/// state:                         the attributes of the Metadata; a value that is SavedMetadata,
///                                StorageColumns or KeptPlans stands for the dict or list that was
///                                read into it
/// make_pickler(memoized, fast):  returns a function from a value to its pickle of protocol 4,
/// which
///                                finds the objects of the list `memoized` in the first slots of
///                                its memo; if `fast`, it memoizes nothing more
/// property_parts(properties):    the parts of a list of TensorProperties that several of them
/// share
void write_metadata(const py::object& write, const py::dict& state, const py::object& make_pickler,
                    const py::object& property_parts);

}  // namespace shardplan::bindings
