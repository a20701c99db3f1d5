#include "core/planning/coordinator.h"

#include <span>
#include <stdexcept>
#include <utility>

#include "core/boxes/box.h"
#include "core/boxes/validate.h"
#include "core/wire/envelope.h"

namespace shardplan::planning {

Coordinator::Coordinator(std::vector<std::string> arrived, std::string release,
                         std::vector<std::int64_t> element_sizes, const util::Pulse& pulse)
    : arrived_(std::move(arrived)),
      release_(std::move(release)),
      element_sizes_(std::move(element_sizes)),
      pulse_(pulse) {}

void Coordinator::read() {
  rows_.reserve(arrived_.size());
  for (std::string& bytes : arrived_) {
    pulse_.check();
    const wire::Envelope plan = wire::open(wire::WireKind::kSavePlan, release_, bytes);
    if (rows_.empty()) {
      table_bytes_ = plan.table;
      table_ = wire::read_table(table_bytes_);
    } else if (table_bytes_ != plan.table) {
      throw std::runtime_error("the ranks have different tables");
    }
    rows_.push_back(wire::read_rows(plan.rows, plan.items, table_.table).rows);
    bytes = {};
  }
  for (const columns::SaveRows& rows : rows_) {
    plans_.push_back({{&table_.table, &rows}, table_.table.name, element_sizes_});
  }
}

void Coordinator::drop_replicas() {
  const SetOrder ascending = [](std::span<const std::uint32_t> ranks) {
    return std::vector<std::uint32_t>(ranks.begin(), ranks.end());
  };
  auto kept = dedup(plans_, table_.names.names.size(), false, ascending, pulse_);
  if (!kept) throw std::runtime_error("the bytes of a plan do not fit int64");
  kept_ = std::move(*kept);
  for (std::size_t rank = 0; rank < plans_.size(); ++rank) {
    plans_[rank].view.chosen = &kept_[rank];
  }
}

void Coordinator::plan() {
  auto made = make_global_plan(plans_, table_.names.names.size(), pulse_);
  if (!made) throw std::runtime_error("a name is written twice");
  global_ = std::move(*made);
}

void Coordinator::check() const {
  for (const SavedEntry& entry : global_.entries) {
    const auto shape = plans_[entry.first.plan].view.shape(entry.first.position);
    boxes::Boxes boxes(shape.size());
    boxes.reserve(entry.end - entry.begin);
    for (std::size_t at = entry.begin; at < entry.end; ++at) {
      pulse_.beat();
      const RowOfPlan row = global_.chunks[at];
      const std::int64_t* numbers = plans_[row.plan].view.numbers(row.position);
      if (!boxes.push(numbers, numbers + shape.size())) {
        throw std::runtime_error("a box ends beyond int64");
      }
    }
    if (boxes::check_boxes(boxes, shape, plans_.size() > 1) != boxes::Fault::kNone) {
      throw std::runtime_error("the boxes of " + table_.names.names[entry.name] +
                               " do not cover it exactly once");
    }
  }
}

void Coordinator::write() {
  sent_.reserve(plans_.size());
  for (std::size_t rank = 0; rank < plans_.size(); ++rank) {
    pulse_.check();
    columns::SavePlanView view = plans_[rank].view;
    view.chunk_indices = &global_.chunk_indices[rank];
    const std::string rows = wire::write_rows(view);
    sent_.push_back(
        wire::seal(wire::WireKind::kSavePlan, release_, {view.size(), table_bytes_, rows}));
  }
}

}  // namespace shardplan::planning
