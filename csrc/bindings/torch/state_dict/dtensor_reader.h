#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "bindings/common/python_object.h"
#include "core/boxes/layout.h"

namespace at {
class Tensor;
}

namespace shardplan::bindings {

/// Returns whether an object is exactly a torch.Tensor or Parameter, without attributes of the
/// protocols by which a tensor plans its own checkpoint (`__create_write_items__` and so on).
bool is_plain_tensor(PyObject* object);

/// Returns whether a tensor is strided and has sizes of plain ints: not sparse, nested or symbolic.
bool is_dense(const at::Tensor& tensor);

/// Whether this rank holds a shard of a DTensor.
enum class MeshMembership {
  kHolds,    // this rank is in the mesh
  kOutside,  // this rank is not in the mesh
  kObject,   // native code cannot read the DTensor; upstream has to answer
};

/// Reads the local boxes of DTensors. A reader serves one plan. Meshes and placements that tensors
/// share are read once; the tensors being planned keep them alive.
class DTensorReader {
 public:
  DTensorReader();

  /// Reads an object of exactly class DTensor. On kHolds, `offsets()` and `sizes()` are its box,
  /// with one number per dim of the tensor, until the next call.
  MeshMembership read(PyObject* object, const at::Tensor& tensor);

  /// Returns whether this rank is in the mesh of the DTensor; ignores its placements.
  MeshMembership membership(PyObject* object);

  const std::int64_t* offsets() const { return offsets_.data(); }
  const std::int64_t* sizes() const { return sizes_.data(); }
  /// The local tensor of the last DTensor that was read.
  PyObject* local_tensor() const { return local_tensor_.ptr(); }

 private:
  struct Mesh {
    py::object keep_alive;
    MeshMembership membership = MeshMembership::kObject;
    std::vector<std::int64_t> shape;
    std::vector<std::int64_t> coordinate;
  };
  struct Layout {
    py::object keep_alive;
    bool plain = false;
    std::vector<boxes::Placement> placements;
  };

  const Mesh& mesh_of(PyObject* spec);
  const Layout& layout_of(PyObject* spec);

  bool enabled_;
  std::unordered_map<PyObject*, Mesh> meshes_;
  std::unordered_map<PyObject*, Layout> layouts_;
  std::vector<std::int64_t> offsets_;
  std::vector<std::int64_t> sizes_;
  py::object local_tensor_;
};

}  // namespace shardplan::bindings
