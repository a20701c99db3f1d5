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

/// Whether `object` is exactly a torch.Tensor or Parameter that carries none of the protocols by
/// which a tensor says itself how it is checkpointed.
bool is_plain_tensor(PyObject* object);

/// Whether a tensor is strided and has sizes of plain ints: not sparse, nested or symbolic.
bool is_dense(const at::Tensor& tensor);

/// What a DTensor is to the rank that asks.
enum class MeshMembership {
  kHolds,    // this rank is in the mesh and holds `box`
  kOutside,  // this rank is not in the mesh
  kObject,   // not one that can be read here: ask upstream
};

/// Reads the local boxes of DTensors. One reader serves one plan: meshes and placements that many
/// tensors share are read once, and are kept alive by the tensors that are being planned.
class DTensorReader {
 public:
  DTensorReader();

  /// Reads `object`, of exactly class DTensor. On kHolds, `offsets()` and `sizes()` give its box,
  /// in as many dims as the tensor has, until the next call.
  MeshMembership read(PyObject* object, const at::Tensor& tensor);

  /// Whether this rank is in the DTensor's mesh, whatever its layout.
  MeshMembership membership(PyObject* object);

  const std::int64_t* offsets() const { return offsets_.data(); }
  const std::int64_t* sizes() const { return sizes_.data(); }
  /// The local tensor of the DTensor last read.
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
