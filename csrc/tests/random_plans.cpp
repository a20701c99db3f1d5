#include "random_plans.h"

#include <algorithm>
#include <limits>

namespace shardplan::testing {
namespace {

/// Usual kind and shape of a name in a job.
struct Usual {
  columns::WriteKind kind;
  Numbers shape;
};

Usual random_usual(Random& random) {
  static constexpr columns::WriteKind kKinds[] = {
      columns::WriteKind::kShard, columns::WriteKind::kShard, columns::WriteKind::kTensor,
      columns::WriteKind::kBytes};
  Usual usual{kKinds[random.index(4)], {}};
  if (!columns::writes_tensor(usual.kind)) return usual;
  usual.shape.resize(random.index(3));
  for (std::int64_t& size : usual.shape) size = random.one_in(10) ? 0 : random.between(1, 3);
  return usual;
}

void add_table(const std::vector<Usual>& usual, Random& random, Job& job) {
  columns::SaveTable table;
  std::vector<std::uint32_t> name_of_entry;
  std::vector<std::int64_t> element_size(1 + random.index(3));
  for (std::int64_t& size : element_size) size = INT64_C(1) << random.index(4);
  // The numbers of names differ between tables.
  const std::size_t shift = random.index(usual.size());
  const std::size_t entries = 1 + random.index(8);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t name = random.index(usual.size());
    const Usual spec = random.one_in(8) ? random_usual(random) : usual[name];
    const auto properties = static_cast<std::uint32_t>(
        columns::writes_tensor(spec.kind) ? random.index(element_size.size()) : 0);
    name_of_entry.push_back(static_cast<std::uint32_t>(name));
    table.name.push_back(static_cast<std::uint32_t>((name + shift) % usual.size()));
    table.spec.push_back(table.specs.push(spec.kind, properties, spec.shape));
  }
  job.tables.push_back(std::move(table));
  job.name_of_entry.push_back(std::move(name_of_entry));
  job.element_size.push_back(std::move(element_size));
}

std::vector<std::uint32_t> random_choice(std::size_t rows, std::size_t one_left_out_in,
                                         Random& random) {
  std::vector<std::uint32_t> chosen;
  for (std::size_t row = 0; row < rows; ++row) {
    if (!random.one_in(one_left_out_in)) chosen.push_back(static_cast<std::uint32_t>(row));
  }
  return chosen;
}

OwnedPlan small_plan(const columns::SaveTable& table, Random& random) {
  OwnedPlan plan;
  const std::size_t rows = random.index(10);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto entry = static_cast<std::uint32_t>(random.index(table.size()));
    const std::uint32_t spec = table.spec[entry];
    const auto shape = table.specs.shape(spec);
    std::int64_t* numbers = plan.rows.push(entry, shape.size());
    std::ranges::copy(shape, numbers + shape.size());
    if (table.specs.kind[spec] != columns::WriteKind::kShard) continue;
    for (std::size_t dim = 0; dim < shape.size(); ++dim) numbers[dim] = random.between(-1, 2);
  }
  if (random.one_in(3)) plan.chosen = random_choice(rows, 3, random);
  return plan;
}

std::string random_part(Random& random) {
  static const std::string kParts[] = {"",   "layers", "weight",   "0",        "model",
                                       "12", "a",      "\xC3\xA9", "\xFF\x80", {"\0", 1}};
  if (!random.one_in(12)) return kParts[random.index(std::size(kParts))];
  std::string part = random_bytes(20, random);
  std::erase(part, '.');
  return part;
}

/// Returns a random path of `parts` dotted parts.
wire::PathShape random_path(std::size_t parts, Random& random) {
  wire::PathShape shape;
  while (parts > 0) {
    const std::size_t taken = 1 + random.index(std::min<std::size_t>(parts, 3));
    shape.push_back({static_cast<std::uint32_t>(taken), random.one_in(3)});
    parts -= taken;
  }
  return shape;
}

std::size_t random_ndim(Random& random) {
  return random.one_in(15) ? columns::kMaxDims - random.index(2) : random.index(4);
}

void fill_box(std::span<const std::int64_t> shape, std::int64_t* numbers, Random& random) {
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    const bool whole = random.one_in(2);
    numbers[dim] = whole ? 0 : random_number(random);
    numbers[shape.size() + dim] = whole ? shape[dim] : random_number(random);
  }
}

}  // namespace

columns::SavePlanView OwnedPlan::view(const columns::SaveTable& table) const {
  return {&table, &rows, chosen ? &*chosen : nullptr, chunk_indices ? &*chunk_indices : nullptr};
}

std::vector<columns::RankPlan> Job::ranks() const {
  std::vector<columns::RankPlan> out;
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    const std::size_t table = table_of[rank];
    out.push_back({plans[rank].view(tables[table]), name_of_entry[table], element_size[table],
                   counted[rank] ? &*counted[rank] : nullptr});
  }
  return out;
}

Job random_job(Random& random) {
  Job job;
  job.name_count = 1 + random.index(6);
  std::vector<Usual> usual;
  for (std::size_t name = 0; name < job.name_count; ++name) usual.push_back(random_usual(random));
  const std::size_t tables = 1 + random.index(3);
  for (std::size_t table = 0; table < tables; ++table) add_table(usual, random, job);
  const std::size_t plans = random.index(9);
  for (std::size_t rank = 0; rank < plans; ++rank) {
    if (rank > 0 && random.one_in(2)) {  // a replica of the plan of a lower rank
      const std::size_t other = random.index(rank);
      job.table_of.push_back(job.table_of[other]);
      job.plans.push_back(OwnedPlan(job.plans[other]));
    } else {
      job.table_of.push_back(random.index(tables));
      job.plans.push_back(small_plan(job.tables[job.table_of.back()], random));
    }
    job.counted.emplace_back();
    if (!random.one_in(4)) continue;
    std::vector<std::int64_t>& counted = job.counted.back().emplace();
    for (std::size_t row = 0; row < job.plans.back().rows.size(); ++row) {
      counted.push_back(random.one_in(2) ? columns::kBytesOfTensor : random.between(0, 9));
    }
  }
  return job;
}

std::int64_t random_number(Random& random) {
  using Limits = std::numeric_limits<std::int64_t>;
  switch (random.index(6)) {
    case 0: return 0;
    case 1: return random.between(-2, 2);
    case 2: return random.one_in(2) ? Limits::min() + random.between(0, 1) : Limits::max();
    case 3: {
      const auto power = static_cast<std::int64_t>(UINT64_C(1) << random.index(64));
      return random.one_in(2) ? power : ~power;
    }
    case 4: return random.between(0, 5000);
    default: return random.between(Limits::min() / 2, Limits::max() / 2);
  }
}

std::string random_bytes(std::size_t longest, Random& random) {
  std::string bytes(random.index(longest + 1), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.index(256));
  return bytes;
}

wire::PlanNames random_names(std::size_t most, Random& random) {
  wire::PlanNames out;
  const std::size_t count = random.index(most + 1);
  for (std::size_t at = 0; at < count; ++at) {
    std::string name;
    if (at > 0 && !random.one_in(4)) {
      name = out.names.back();
      for (std::size_t parts = random.index(3); parts > 0 && name.find('.') != name.npos; --parts) {
        name.resize(name.rfind('.'));
      }
    }
    std::size_t added = random.one_in(10) ? 13 + random.index(6) : random.index(4);
    for (; added > 0; --added) name += (random.one_in(10) ? "" : ".") + random_part(random);
    if (random.one_in(40)) name.resize(wire::kLongestName, 'x');
    if (name.size() > wire::kLongestName) name.resize(wire::kLongestName);
    out.names.push_back(std::move(name));
  }
  const std::size_t mapped = random.index(count + 1);
  for (std::size_t at = 0; at < mapped; ++at) {
    const wire::PathShape shape = random_path(wire::count_parts(out.names[at]), random);
    const auto found = std::ranges::find(out.shapes, shape);
    out.shape_of_name.push_back(static_cast<std::uint32_t>(found - out.shapes.begin()));
    if (found == out.shapes.end()) out.shapes.push_back(shape);
  }
  if (random.one_in(4)) out.shapes.emplace_back();
  return out;
}

wire::NamedTable random_table(Random& random) {
  wire::NamedTable out;
  out.names = random_names(8, random);
  out.properties.resize(random.index(4));
  for (std::string& row : out.properties) row = random_bytes(12, random);
  const std::size_t specs = random.index(6);
  for (std::size_t spec = 0; spec < specs; ++spec) {
    auto kind = static_cast<columns::WriteKind>(random.index(4));
    if (out.properties.empty() && columns::writes_tensor(kind)) kind = columns::WriteKind::kBytes;
    const bool tensor = columns::writes_tensor(kind);
    Numbers shape(tensor ? random_ndim(random) : 0);
    for (std::int64_t& size : shape) size = random_number(random);
    const std::size_t properties = tensor ? random.index(out.properties.size()) : 0;
    out.table.specs.push(kind, static_cast<std::uint32_t>(properties), shape);
    if (random.one_in(3)) out.table.specs.push(kind, static_cast<std::uint32_t>(properties), shape);
  }
  if (out.names.names.empty() || specs == 0) return out;
  const std::size_t entries = random.index(10);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t names = out.names.names.size();
    const std::size_t name = random.one_in(3) ? random.index(names) : entry % names;
    out.table.name.push_back(static_cast<std::uint32_t>(name));
    out.table.spec.push_back(static_cast<std::uint32_t>(random.index(out.table.specs.size())));
  }
  return out;
}

OwnedPlan random_plan(const columns::SaveTable& table, Random& random) {
  OwnedPlan plan;
  const bool in_order = random.one_in(2);
  const std::size_t rows = table.size() == 0 ? 0 : in_order ? table.size() : random.index(12);
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t entry = in_order ? row : random.index(table.size());
    const auto shape = table.specs.shape(table.spec[entry]);
    fill_box(shape, plan.rows.push(static_cast<std::uint32_t>(entry), shape.size()), random);
  }
  if (random.one_in(3)) plan.chosen = random_choice(rows, random.one_in(2) ? 3 : 100, random);
  if (!random.one_in(2)) return plan;
  const columns::SavePlanView view = plan.view(table);
  std::vector<std::int64_t> chunk_indices(view.size(), columns::kNoChunkIndex);
  for (std::size_t at = 0; at < chunk_indices.size(); ++at) {
    if (!columns::writes_tensor(view.kind(at)) || random.one_in(5)) continue;
    const std::int64_t number = random_number(random);
    chunk_indices[at] = number < 0 ? ~number : number;
  }
  plan.chunk_indices = std::move(chunk_indices);
  return plan;
}

wire::NamedReads random_reads(Random& random) {
  wire::NamedReads out;
  out.names = random_names(6, random).names;
  const std::size_t rows = random.index(12);
  std::uint32_t objects = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto kind = static_cast<columns::ReadKind>(random.index(3));
    if (kind == columns::ReadKind::kObject || out.names.empty()) {
      out.rows.push(columns::ReadKind::kObject, objects++);
      continue;
    }
    const auto name = static_cast<std::uint32_t>(random.index(out.names.size()));
    if (kind == columns::ReadKind::kBytes) {
      out.rows.push(kind, name);
      continue;
    }
    const std::size_t ndim = random_ndim(random);
    const auto wanted = static_cast<std::size_t>(random_number(random));
    const auto saved = static_cast<std::size_t>(random_number(random));
    std::int64_t* numbers = out.rows.push(kind, name, wanted, saved, ndim);
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      // Often only the length is nonzero, or one other number.
      const std::size_t alone = random.index(9);
      for (std::size_t column = 0; column < 5; ++column) {
        const bool is_set = column == 4 || alone == 8 || column == alone;
        numbers[column * ndim + dim] = is_set ? random_number(random) : 0;
      }
    }
  }
  return out;
}

}  // namespace shardplan::testing
