#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/core/register.h"
#include "bindings/core/signal_pulse.h"
#include "core/simulate/simulation.h"

namespace py = pybind11;

namespace shardplan::bindings {
namespace {

using Numbers = std::vector<std::int64_t>;
using TensorTuple = std::tuple<std::string, Numbers, std::string, std::int64_t, std::uint32_t>;

std::vector<simulate::SimulatedTensor> tensors_from(const std::vector<TensorTuple>& tensors) {
  std::vector<simulate::SimulatedTensor> parsed_tensors;
  for (const auto& [name, shape, dtype, element_size, layout] : tensors) {
    parsed_tensors.push_back({name, shape, dtype, element_size, layout});
  }
  return parsed_tensors;
}

std::uint64_t memory(const std::vector<TensorTuple>& tensors, const Numbers& mesh_shape,
                     const std::vector<std::vector<PlacementTuple>>& layouts) {
  return simulate::simulation_memory(tensors_from(tensors), mesh_shape, layouts_from(layouts));
}

py::dict simulate(const std::vector<TensorTuple>& tensors, const Numbers& mesh_shape,
                  const std::vector<std::vector<PlacementTuple>>& layouts, std::size_t look_at,
                  const std::string& keeper) {
  const std::vector<simulate::SimulatedTensor> parsed_tensors = tensors_from(tensors);
  const util::Pulse pulse = signal_pulse();
  const auto parsed = layouts_from(layouts);
  const planning::Keeper kept_by = planning::keeper_named(keeper);
  const simulate::Simulation done = [&] {
    const py::gil_scoped_release unlocked;
    return simulate::simulate_save(parsed_tensors, mesh_shape, parsed, kept_by, look_at, pulse);
  }();
  py::list ranks;
  for (const simulate::Simulation::OfRank& rank : done.ranks) {
    ranks.append(py::make_tuple(rank.items, rank.bytes));
  }
  py::dict all;
  all["ranks"] = ranks;
  all["items"] = done.items;
  all["wire_in"] = done.wire_in;
  all["wire_out"] = done.wire_out;
  all["metadata"] = done.metadata;
  all["stages"] = done.stages;
  all["boxes"] = done.boxes;
  all["writers"] = done.writers;
  return all;
}

}  // namespace

void register_simulation(py::module_& m) {
  m.def("simulate", &simulate, py::arg("tensors"), py::arg("mesh_shape"), py::arg("layouts"),
        py::arg("look_at"), py::arg("keeper"),
        "Plans a save. Each tensor is (name, shape, dtype, bytes per element, layout index). "
        "Raises ValueError or RuntimeError if it cannot be planned.");
  m.def("simulation_memory", &memory, py::arg("tensors"), py::arg("mesh_shape"), py::arg("layouts"),
        "Returns the estimated peak memory of ``simulate`` in bytes.");
}

}  // namespace shardplan::bindings
