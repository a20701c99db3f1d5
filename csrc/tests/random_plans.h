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

/// Random plans: those of all ranks of a job, and single ones for the wire.
namespace shardplan::testing {

/// Save plan that owns the data of its view, except the table.
struct OwnedPlan {
  columns::SaveRows rows;
  std::optional<std::vector<std::uint32_t>> chosen;
  std::optional<std::vector<std::int64_t>> chunk_indices;

  columns::SavePlanView view(const columns::SaveTable& table) const;
};

/// Plans of all ranks, with the data that RankPlan points to.
struct Job {
  std::size_t name_count = 0;
  std::vector<columns::SaveTable> tables;
  std::vector<std::vector<std::uint32_t>> name_of_entry;  // per table
  std::vector<std::vector<std::int64_t>> element_size;    // per table
  std::vector<OwnedPlan> plans;
  std::vector<std::size_t> table_of;                              // per plan
  std::vector<std::optional<std::vector<std::int64_t>>> counted;  // per plan

  std::vector<columns::RankPlan> ranks() const;
};

/// A few plans over a few tables, with replicas, duplicate rows within a plan, names that are bytes
/// on one rank and a tensor on another, and chosen rows. Numbers are small, so that offsets and
/// byte counts are often equal.
Job random_job(Random& random);

/// Random int64, often an extreme or near 0.
std::int64_t random_number(Random& random);

/// Up to `longest` random bytes.
std::string random_bytes(std::size_t longest, Random& random);

/// Names with shared prefixes, empty parts and arbitrary bytes; some have paths.
wire::PlanNames random_names(std::size_t most, Random& random);

wire::NamedTable random_table(Random& random);

/// Random rows of a table: all entries in order or any entries, whole tensors or boxes, with or
/// without chosen rows and chunk indices.
OwnedPlan random_plan(const columns::SaveTable& table, Random& random);

wire::NamedReads random_reads(Random& random);

}  // namespace shardplan::testing
