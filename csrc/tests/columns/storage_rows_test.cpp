#include "core/columns/storage_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/wire/bytes.h"
#include "core/wire/storage.h"

namespace shardplan::testing {
namespace {

/// Row as a literal.
struct Row {
  std::string fqn;
  std::optional<std::vector<std::int64_t>> offset;
  std::int64_t chunk_index;
  std::string path;
  std::int64_t begin;
  std::int64_t length;
  bool operator==(const Row&) const = default;

  std::pair<std::string, std::optional<std::vector<std::int64_t>>> key() const {
    return {fqn, offset};
  }
};

columns::StorageRows rows_of(const std::vector<Row>& all) {
  columns::StorageRows rows;
  auto names = std::make_shared<util::TextTable>();
  auto paths = std::make_shared<util::TextTable>();
  for (const Row& row : all) {
    const auto ndim = row.offset ? static_cast<std::uint8_t>(row.offset->size())
                                 : columns::StorageRows::kNoOffset;
    std::int64_t* numbers = rows.push(names->number_of(row.fqn), ndim, row.chunk_index,
                                      paths->number_of(row.path), row.begin, row.length);
    if (row.offset) std::ranges::copy(*row.offset, numbers);
  }
  rows.names = names;
  rows.paths = paths;
  return rows;
}

std::vector<Row> rows_in(const columns::StorageRows& rows) {
  std::vector<Row> all;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto offset = rows.offset(row);
    all.push_back({std::string((*rows.names)[rows.name[row]]),
                   rows.ndim[row] == columns::StorageRows::kNoOffset
                       ? std::nullopt
                       : std::optional(std::vector<std::int64_t>(offset.begin(), offset.end())),
                   rows.chunk_index[row], std::string((*rows.paths)[rows.path[row]]),
                   rows.begin[row], rows.length[row]});
  }
  return all;
}

class RandomRows {
 public:
  explicit RandomRows(unsigned seed) : random_(seed) {}

  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(end));
  }
  std::int64_t number() {
    constexpr std::int64_t kUnreadable[] = {INT64_MIN, INT64_MAX, -1, 1LL << 40};
    return below(8) == 0 ? kUnreadable[below(4)] : below(5);
  }
  Row row() {
    Row made{"n" + std::to_string(below(4)),
             std::nullopt,
             below(4) == 0 ? columns::kNoChunkIndex : below(6),
             "p" + std::to_string(below(3)),
             number(),
             number()};
    if (below(5) != 0) {
      made.offset.emplace();
      for (std::int64_t dim = below(4); dim > 0; --dim) made.offset->push_back(number());
    }
    return made;
  }
  std::vector<Row> rows(std::int64_t most) {
    std::vector<Row> made;
    for (std::int64_t left = below(most + 1); left > 0; --left) made.push_back(row());
    return made;
  }

 private:
  std::mt19937_64 random_;
};

TEST(StorageIndex, MatchesAMap) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    RandomRows random(seed);
    const std::vector<Row> all = random.rows(40);
    std::map<std::pair<std::string, std::optional<std::vector<std::int64_t>>>, std::size_t> first;
    for (std::size_t at = 0; at < all.size(); ++at) first.try_emplace(all[at].key(), at);
    const columns::StorageRows rows = rows_of(all);
    const columns::StorageIndex index(rows);
    EXPECT_EQ(index.unique(), first.size() == all.size());
    for (int query = 0; query < 60; ++query) {
      const Row asked = random.row();
      const auto expected = first.find(asked.key());
      std::optional<std::span<const std::int64_t>> offset;
      if (asked.offset) offset = *asked.offset;
      const auto found = index.find({asked.fqn, offset}, random.number());
      ASSERT_EQ(found.has_value(), expected != first.end());
      if (!found) continue;
      ASSERT_EQ(all[*found].key(), asked.key());
      if (first.size() == all.size()) {
        ASSERT_EQ(*found, expected->second);
      }
    }
  }
}

TEST(MergeResults, MatchesDictUpdate) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    RandomRows random(seed);
    std::vector<columns::StorageRows> results;
    std::vector<Row> expected;
    for (std::int64_t rank = random.below(5); rank >= 0; --rank) {
      const std::vector<Row> of_rank = random.rows(12);
      results.push_back(rows_of(of_rank));
      for (const Row& row : of_rank) {
        const auto known = std::ranges::find(expected, row.key(), &Row::key);
        if (known == expected.end()) {
          expected.push_back(row);
        } else {
          known->path = row.path;
          known->begin = row.begin;
          known->length = row.length;
        }
      }
    }
    std::vector<const columns::StorageRows*> pointers;
    for (const columns::StorageRows& one : results) pointers.push_back(&one);
    ASSERT_EQ(rows_in(columns::merge_results(pointers)), expected);
  }
}

TEST(WireStorage, RoundTrip) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    RandomRows random(seed);
    const columns::StorageRows rows = rows_of(random.rows(40));
    auto names = std::make_shared<const util::TextTable>(
        wire::read_storage_names(wire::write_storage_names(rows).value()));
    const columns::StorageRows read =
        wire::read_storage_rows(wire::write_storage_rows(rows), rows.size(), names);
    ASSERT_EQ(rows_in(read), rows_in(rows));
  }
}

TEST(WireStorage, TooLongNamesAreNotEncoded) {
  EXPECT_TRUE(
      wire::write_storage_names(rows_of({{std::string(1024, 'n'), {}, 0, "p", 0, 0}})).has_value());
  EXPECT_FALSE(
      wire::write_storage_names(rows_of({{std::string(1025, 'n'), {}, 0, "p", 0, 0}})).has_value());
}

TEST(WireStorage, BrokenRowsAreRejectedOrInRange) {
  RandomRows random(7);
  const columns::StorageRows rows = rows_of(random.rows(12));
  auto names = std::make_shared<const util::TextTable>(
      wire::read_storage_names(wire::write_storage_names(rows).value()));
  const std::string bytes = wire::write_storage_rows(rows);
  const auto check = [&](const std::string& broken, std::size_t count) {
    try {
      const columns::StorageRows read = wire::read_storage_rows(broken, count, names);
      for (std::size_t row = 0; row < read.size(); ++row) {
        ASSERT_LT(read.name[row], names->size());
        ASSERT_LT(read.path[row], read.paths->size());
        ASSERT_LE(read.first[row] + read.offset(row).size(), read.numbers.size());
        ASSERT_GE(read.chunk_index[row], columns::kNoChunkIndex);
      }
    } catch (const wire::BadWire& problem) {
      ASSERT_NE(std::string(problem.what()).find("at byte"), std::string::npos);
    }
  };
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(wire::read_storage_rows(bytes.substr(0, length), rows.size(), names),
                 wire::BadWire);
  }
  EXPECT_THROW(wire::read_storage_rows(bytes, rows.size() + 1, names), wire::BadWire);
  EXPECT_THROW(wire::read_storage_rows(bytes, std::size_t{1} << 40, names), wire::BadWire);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string broken = bytes;
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << (bit % 8)));
    check(broken, rows.size());
  }
}

TEST(TextTable, NumbersStringsInOrder) {
  util::TextTable table;
  for (std::uint32_t at = 0; at < 5'000; ++at) {
    EXPECT_EQ(table.number_of("text " + std::to_string(at)), at);
  }
  EXPECT_EQ(table.size(), 5'000U);
  EXPECT_EQ(table.number_of("text 77"), 77U);
  EXPECT_EQ(table.find("text 4999"), 4'999U);
  EXPECT_EQ(table.find("text"), std::nullopt);
  EXPECT_EQ(util::TextTable().find(""), std::nullopt);
  EXPECT_EQ(table[0], "text 0");
}

TEST(StorageRows, FileEndsAreThoseOfTheLastRowOfEachPath) {
  const columns::StorageRows rows = rows_of({
      {"a", std::nullopt, columns::kNoChunkIndex, "one", 5, 7},
      {"b", std::nullopt, columns::kNoChunkIndex, "two", INT64_MAX - 1, 2},
      {"c", std::nullopt, columns::kNoChunkIndex, "one", 0, 4},
      {"d", std::nullopt, columns::kNoChunkIndex, "three", -9, 3},
  });
  EXPECT_EQ(columns::file_ends(rows), (std::vector<std::int64_t>{12, INT64_MAX, 0}));
  EXPECT_TRUE(columns::file_ends(rows_of({})).empty());
}

}  // namespace
}  // namespace shardplan::testing
