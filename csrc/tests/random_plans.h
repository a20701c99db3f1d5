#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/planning/dedup.h"
#include "core/wire/load_plan.h"
#include "core/wire/save_plan.h"
#include "random_layouts.h"

/// Random plans: many of one job, to be merged, and single ones, to travel.
namespace shardplan::testing {

/// A save plan that owns what its view points at, but for the table.
struct OwnedPlan {
  columns::SaveRows rows;
  std::optional<std::vector<std::uint32_t>> chosen;
  std::optional<std::vector<std::int64_t>> chunk_indices;

  columns::SavePlanView view(const columns::SaveTable& table) const;
};

/// The plans of all ranks, and what `RankPlan` points at.
struct Job {
  std::size_t name_count = 0;
  std::vector<columns::SaveTable> tables;
  std::vector<std::vector<std::uint32_t>> name_of_entry;  // by table
  std::vector<std::vector<std::int64_t>> element_size;    // by table
  std::vector<OwnedPlan> plans;
  std::vector<std::size_t> table_of;                              // by plan
  std::vector<std::optional<std::vector<std::int64_t>>> counted;  // by plan

  std::vector<columns::RankPlan> ranks() const;
};

/// A few plans over a few tables: replicas, rows that one plan has twice, names that are bytes here
/// and a tensor there, chosen rows. Numbers are small, so that offsets and bytes are often equal.
Job random_job(Random& random);

/// Any int64, often one of the extremes or near 0.
std::int64_t random_number(Random& random);

/// Any bytes, up to `longest` of them.
std::string random_bytes(std::size_t longest, Random& random);

/// Names that share prefixes, with empty parts, any bytes, and paths for some of them.
wire::PlanNames random_names(std::size_t most, Random& random);

wire::NamedTable random_table(Random& random);

/// Rows of a table: all entries in order, or any; whole tensors or boxes; chosen, with chunk
/// indices, or not.
OwnedPlan random_plan(const columns::SaveTable& table, Random& random);

wire::NamedReads random_reads(Random& random);

}  // namespace shardplan::testing
