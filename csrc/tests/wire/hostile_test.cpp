#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "core/wire/load_plan.h"
#include "core/wire/names.h"
#include "core/wire/save_plan.h"
#include "random_plans.h"

/// Hostile input with a valid checksum. Readers throw BadWire or return consistent data.
namespace shardplan::testing {
namespace {

std::size_t parts_of(const wire::PathShape& shape) {
  std::size_t parts = 0;
  for (const wire::PathElement& element : shape) parts += element.parts;
  return parts;
}

void expect_sound(const wire::PlanNames& names) {
  for (const std::string& name : names.names) EXPECT_LE(name.size(), wire::kLongestName);
  ASSERT_LE(names.shape_of_name.size(), names.names.size());
  for (std::size_t name = 0; name < names.shape_of_name.size(); ++name) {
    ASSERT_LT(names.shape_of_name[name], names.shapes.size());
    const wire::PathShape& shape = names.shapes[names.shape_of_name[name]];
    EXPECT_EQ(parts_of(shape), wire::count_parts(names.names[name]));
    for (const wire::PathElement& element : shape) EXPECT_GT(element.parts, 0u);
  }
}

void expect_sound(const wire::NamedTable& named) {
  expect_sound(named.names);
  const columns::EntrySpecs& specs = named.table.specs;
  ASSERT_EQ(specs.properties.size(), specs.size());
  ASSERT_EQ(specs.ndim.size(), specs.size());
  ASSERT_EQ(specs.first.size(), specs.size());
  for (std::size_t spec = 0; spec < specs.size(); ++spec) {
    ASSERT_LE(specs.kind[spec], columns::WriteKind::kObject);
    ASSERT_LE(specs.ndim[spec], columns::writes_tensor(specs.kind[spec]) ? columns::kMaxDims : 0);
    ASSERT_LE(specs.first[spec] + specs.ndim[spec], specs.shapes.size());
    if (!columns::writes_tensor(specs.kind[spec])) continue;
    ASSERT_LT(specs.properties[spec], named.properties.size());
  }
  ASSERT_EQ(named.table.name.size(), named.table.spec.size());
  for (std::size_t entry = 0; entry < named.table.size(); ++entry) {
    ASSERT_LT(named.table.name[entry], named.names.names.size());
    ASSERT_LT(named.table.spec[entry], specs.size());
  }
}

void expect_sound(const wire::ReceivedRows& received, std::size_t count,
                  const columns::SaveTable& table) {
  const columns::SaveRows& rows = received.rows;
  ASSERT_EQ(rows.size(), count);
  ASSERT_EQ(rows.first.size(), count);
  for (std::size_t row = 0; row < count; ++row) {
    ASSERT_LT(rows.entry[row], table.size());
    ASSERT_LE(rows.first[row] + std::size_t{2} * table.specs.ndim[table.spec[rows.entry[row]]],
              rows.numbers.size());
  }
  if (received.chunk_indices.empty()) return;
  ASSERT_EQ(received.chunk_indices.size(), count);
  for (const std::int64_t chunk_index : received.chunk_indices)
    EXPECT_GE(chunk_index, columns::kNoChunkIndex);
}

void expect_sound(const wire::NamedReads& reads, std::size_t count) {
  for (const std::string& name : reads.names) EXPECT_LE(name.size(), wire::kLongestName);
  const columns::ReadColumns& rows = reads.rows;
  ASSERT_EQ(rows.size(), count);
  for (const std::size_t size : {rows.name.size(), rows.wanted.size(), rows.saved.size(),
                                 rows.ndim.size(), rows.first.size()}) {
    ASSERT_EQ(size, count);
  }
  std::uint32_t objects = 0;
  for (std::size_t row = 0; row < count; ++row) {
    ASSERT_LE(rows.kind[row], columns::ReadKind::kObject);
    ASSERT_LE(rows.ndim[row], rows.kind[row] == columns::ReadKind::kTensor ? columns::kMaxDims : 0);
    ASSERT_LE(rows.first[row] + std::size_t{5} * rows.ndim[row], rows.numbers.size());
    if (rows.kind[row] == columns::ReadKind::kObject) {
      EXPECT_EQ(rows.name[row], objects++);
    } else {
      ASSERT_LT(rows.name[row], reads.names.size());
    }
  }
}

/// Runs a reader on hostile input. `read` reads it and checks the result.
class Attack {
 public:
  explicit Attack(std::function<void(std::string_view)> read) : read_(std::move(read)) {}

  /// Changes, removes, duplicates and inserts bytes at every position; truncates at every length.
  void near(const std::string& valid, Random& random) {
    for (std::size_t at = 0; at < valid.size(); ++at) {
      const auto old = static_cast<std::uint8_t>(valid[at]);
      for (const std::size_t byte :
           {std::size_t{0}, std::size_t{1}, std::size_t{0x7F}, std::size_t{0x80}, std::size_t{0xFF},
            old ^ std::size_t{1}, old ^ std::size_t{0x80}, old + std::size_t{1}, random.index(256),
            random.index(256)}) {
        std::string other = valid;
        other[at] = static_cast<char>(byte);
        once(other);
      }
      once(std::string(valid, 0, at));
      once(std::string(valid).erase(at, 1));
      once(std::string(valid).erase(at, 1 + random.index(4)));
      once(std::string(valid).insert(at, 1, valid[at]));
      once(std::string(valid).insert(at, 1, static_cast<char>(random.index(256))));
      // A count or an index of 2^63 or more.
      once(std::string(valid).replace(at, 1, std::string(9, '\xFF') + '\x01'));
    }
    once(valid + valid);
  }

  void anywhere(std::size_t rounds, Random& random) {
    for (std::size_t round = 0; round < rounds; ++round) {
      std::string bytes = random_bytes(40, random);
      if (random.one_in(2)) {  // small numbers pass more checks
        for (char& byte : bytes) byte = static_cast<char>(byte & 3);
      }
      once(bytes);
    }
  }

  void expect_both() const {
    EXPECT_GT(accepted_, 500);
    EXPECT_GT(refused_, 500);
  }

 private:
  // Copied to the end of a heap block, so that sanitizers detect reads past the end.
  void once(const std::string& bytes) {
    const std::vector<char> exact(bytes.begin(), bytes.end());
    try {
      read_({exact.data(), exact.size()});
      ++accepted_;
    } catch (const wire::BadWire&) {
      ++refused_;
    }
    ASSERT_FALSE(::testing::Test::HasFatalFailure()) << ::testing::PrintToString(bytes);
  }

  std::function<void(std::string_view)> read_;
  int accepted_ = 0;
  int refused_ = 0;
};

TEST(HostileBytes, Names) {
  Random random(91);
  Attack attack([](std::string_view bytes) {
    wire::ByteReader in(bytes);
    const wire::PlanNames names = wire::read_names(in);
    expect_sound(names);
    wire::ByteWriter again;
    ASSERT_TRUE(wire::write_names(names, again));
    wire::ByteReader in_again(again.bytes());
    const wire::PlanNames same = wire::read_names(in_again);
    EXPECT_EQ(same.names, names.names);
    EXPECT_EQ(same.shapes, names.shapes);
    EXPECT_EQ(same.shape_of_name, names.shape_of_name);
  });
  for (int round = 0; round < 40; ++round) {
    wire::ByteWriter out;
    ASSERT_TRUE(wire::write_names(random_names(5, random), out));
    if (out.size() < 400) attack.near(out.bytes(), random);
  }
  attack.anywhere(20000, random);
  attack.expect_both();
}

TEST(HostileBytes, Table) {
  Random random(92);
  Attack attack([](std::string_view bytes) {
    const wire::NamedTable table = wire::read_table(bytes);
    expect_sound(table);
    const std::string again = wire::write_table(table).value();
    EXPECT_EQ(wire::write_table(wire::read_table(again)).value(), again);
  });
  for (int round = 0; round < 40; ++round) {
    const std::string bytes = wire::write_table(random_table(random)).value();
    if (bytes.size() < 1500) attack.near(bytes, random);
  }
  attack.anywhere(20000, random);
  attack.expect_both();
}

TEST(HostileBytes, SavedRows) {
  Random random(93);
  const wire::NamedTable* table = nullptr;
  std::size_t count = 0;
  Attack attack([&table, &count](std::string_view bytes) {
    const wire::ReceivedRows received = wire::read_rows(bytes, count, table->table);
    expect_sound(received, count, table->table);
    const auto* chunk_indices = received.chunk_indices.empty() ? nullptr : &received.chunk_indices;
    const std::string again =
        wire::write_rows({&table->table, &received.rows, nullptr, chunk_indices});
    const wire::ReceivedRows same = wire::read_rows(again, count, table->table);
    EXPECT_EQ(same.rows.entry, received.rows.entry);
    EXPECT_EQ(same.rows.numbers, received.rows.numbers);
    EXPECT_EQ(same.chunk_indices, received.chunk_indices);
  });
  for (int round = 0; round < 200; ++round) {
    // As received, with the numbers of the specs on the wire.
    const wire::NamedTable read = wire::read_table(wire::write_table(random_table(random)).value());
    table = &read;
    const OwnedPlan plan = random_plan(read.table, random);
    const columns::SavePlanView view = plan.view(read.table);
    const std::string bytes = wire::write_rows(view);
    count = view.size();
    if (bytes.size() < 1500) attack.near(bytes, random);
    attack.anywhere(50, random);
    count = random.index(8);
    attack.anywhere(50, random);
  }
  attack.expect_both();
}

TEST(HostileBytes, Reads) {
  Random random(94);
  std::string names;
  std::size_t count = 0;
  const auto read = [&count](std::string_view of_names, std::string_view rows) {
    const wire::NamedReads reads = wire::read_reads(of_names, rows, count);
    expect_sound(reads, count);
    const wire::NamedReads same = wire::read_reads(wire::write_read_names(reads.names).value(),
                                                   wire::write_reads(reads.rows).value(), count);
    EXPECT_EQ(same.names, reads.names);
    EXPECT_EQ(same.rows.kind, reads.rows.kind);
    EXPECT_EQ(same.rows.name, reads.rows.name);
    EXPECT_EQ(same.rows.wanted, reads.rows.wanted);
    EXPECT_EQ(same.rows.saved, reads.rows.saved);
    EXPECT_EQ(same.rows.numbers, reads.rows.numbers);
  };
  std::string rows;
  Attack on_rows([&](std::string_view bytes) { read(names, bytes); });
  Attack on_names([&](std::string_view bytes) { read(bytes, rows); });
  for (int round = 0; round < 60; ++round) {
    const wire::NamedReads reads = random_reads(random);
    names = wire::write_read_names(reads.names).value();
    rows = wire::write_reads(reads.rows).value();
    count = reads.rows.size();
    if (rows.size() < 1500) on_rows.near(rows, random);
    if (names.size() < 400) on_names.near(names, random);
    count = random.index(4);
    on_rows.anywhere(200, random);
  }
  on_rows.expect_both();
  on_names.expect_both();
}

}  // namespace
}  // namespace shardplan::testing
