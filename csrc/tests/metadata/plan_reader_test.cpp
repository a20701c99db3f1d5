#include "core/metadata/plan_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "core/metadata/metadata_writer.h"
#include "core/pickle/opcodes.h"
#include "pickle/parts.h"
#include "random_plans.h"

namespace shardplan::testing {
namespace {

namespace opcode = pickle::opcode;

const std::string kPlannerModule = "torch.distributed.checkpoint.planner";

/// Writes the pickle of a Metadata that holds plans, as the bindings do.
class PlanFile {
 public:
  PlanFile() : out_([this](std::string_view bytes) { bytes_ += bytes; }) {
    memo_.size_class = memoize(pickled_global("torch", "Size"));
    memo_.chunk_class = memoize(pickled_global(kMetadataModule, "ChunkStorageMetadata"));
    memo_.index_class = memoize(pickled_global(kMetadataModule, "MetadataIndex"));
    memo_.plan_class = memoize(pickled_global(kPlannerModule, "SavePlan"));
    memo_.item_class = memoize(pickled_global(kPlannerModule, "WriteItem"));
    memo_.data_class = memoize(pickled_global(kPlannerModule, "TensorWriteData"));
    properties_class_ = memoize(pickled_global(kMetadataModule, "TensorProperties"));
    const std::pair<const char*, std::uint32_t*> names[] = {
        {"offsets", &memo_.offsets},
        {"sizes", &memo_.sizes},
        {"properties", &memo_.properties},
        {"size", &memo_.size},
        {"fqn", &memo_.fqn},
        {"index", &memo_.index},
        {"offset", &memo_.offset},
        {"type", &memo_.type},
        {"bytes_io_data", &memo_.bytes_io_data},
        {"tensor_data", &memo_.tensor_data},
        {"chunk", &memo_.chunk},
    };
    for (const auto& [name, slot] : names) *slot = memoize(pickled_text(name));
    const std::pair<columns::WriteKind, char> kinds[] = {{columns::WriteKind::kTensor, 1},
                                                         {columns::WriteKind::kShard, 2},
                                                         {columns::WriteKind::kBytes, 3}};
    for (const auto& [kind, number] : kinds) {
      memo_.writes[static_cast<std::size_t>(kind)] =
          memoize(pickled_global(kPlannerModule, "WriteItemType") + "K" + number + "\x85R");
    }
    object_ = pickled_global(kMetadataModule, "Metadata") + ")\x81}";
  }

  std::uint32_t memoize(std::string_view opcodes) {
    out_.raw(opcodes);
    out_.code(opcode::kMemoize);
    out_.code(opcode::kPop);
    return slots_++;
  }

  /// Returns the opcodes of a TensorProperties with the state (number,).
  std::string properties(std::uint32_t number) const {
    return memo_get(properties_class_) + ")\x81" + pickled_int(static_cast<std::int32_t>(number)) +
           "\x85"
           "b";
  }

  /// Begins the list of plans. Everything is memoized before.
  void begin() { out_.raw(object_ + pickled_text("plans") + "]("); }

  void add(const columns::SavePlanView& plan, std::span<const std::uint32_t> name_slots) {
    const columns::EntrySpecs& specs = plan.table->specs;
    std::uint32_t rows = 0;
    for (const std::uint32_t row : specs.properties) rows = std::max(rows, row + 1);
    std::vector<std::string> of_row;
    for (std::uint32_t row = 0; row < rows; ++row) of_row.push_back(properties(row));
    metadata::write_object(out_, memo_.plan_class);
    metadata::begin_state(out_);
    out_.raw(pickled_text("items"));
    metadata::write_items(out_, memo_, plan, name_slots, of_row);
    metadata::end_state(out_);
  }

  /// Adds a plan with these opcodes as items.
  void add_raw(const std::string& items) {
    metadata::write_object(out_, memo_.plan_class);
    out_.raw("}" + pickled_text("items") + items + "sb");
  }

  std::string finish() {
    out_.raw("esb");
    out_.stop();
    return bytes_;
  }

  const metadata::MetadataMemo& memo() const { return memo_; }

 private:
  std::string bytes_;
  pickle::Writer out_;
  metadata::MetadataMemo memo_;
  std::uint32_t slots_ = 0;
  std::uint32_t properties_class_ = 0;
  std::string object_;
};

struct Read {
  pickle::Pickle pickle;
  metadata::PickledPlans plans;
};

Read read(const std::string& bytes) {
  Read out{pickle::read_pickle(source_of(bytes)), {}};
  out.plans = metadata::read_pickled_plans(out.pickle, out.pickle.values.texts);
  return out;
}

/// Returns the number in the state of a TensorProperties.
std::int64_t number_of(const pickle::Values& values, pickle::Value properties) {
  return values.front(values.objects[properties.at()].state)->number();
}

void expect_same(const Read& read, const metadata::PickledItems& found,
                 const columns::SavePlanView& expected, const wire::NamedTable& table) {
  const columns::SavePlanView view{&found.table->columns, &found.rows, nullptr,
                                   found.chunk_indices.empty() ? nullptr : &found.chunk_indices};
  ASSERT_EQ(view.size(), expected.size());
  for (std::size_t at = 0; at < view.size(); ++at) {
    SCOPED_TRACE(at);
    ASSERT_EQ(view.kind(at), expected.kind(at));
    EXPECT_EQ(view.chunk_index(at), expected.chunk_index(at));
    EXPECT_TRUE(std::ranges::equal(view.shape(at), expected.shape(at)));
    EXPECT_TRUE(std::ranges::equal(std::span(view.numbers(at), 2 * view.ndim(at)),
                                   std::span(expected.numbers(at), 2 * view.ndim(at))));
    const std::uint32_t text = found.table->names[view.table->name[view.entry(at)]];
    EXPECT_EQ(read.pickle.values.texts[text],
              table.names.names[expected.table->name[expected.entry(at)]]);
    if (!columns::writes_tensor(view.kind(at))) continue;
    const std::uint32_t row = found.table->properties[view.table->specs.properties[view.spec(at)]];
    EXPECT_EQ(number_of(read.pickle.values, read.plans.properties[row]),
              expected.table->specs.properties[expected.spec(at)]);
  }
}

/// Replaces kObject entries, which have no record, by bytes.
void drop_objects(columns::SaveTable& table) {
  std::ranges::replace(table.specs.kind, columns::WriteKind::kObject, columns::WriteKind::kBytes);
}

TEST(PlanReader, ReadsWhatIsWritten) {
  std::size_t rows = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    wire::NamedTable table = random_table(random);
    drop_objects(table.table);
    std::vector<OwnedPlan> plans(1 + random.index(3));
    PlanFile file;
    std::vector<std::uint32_t> slots;
    for (const std::string& name : table.names.names)
      slots.push_back(file.memoize(pickled_text(name)));
    file.begin();
    for (OwnedPlan& plan : plans) {
      plan = random_plan(table.table, random);
      if (plan.chunk_indices) {
        for (std::int64_t& index : *plan.chunk_indices) index = std::min(index, INT64_C(1) << 54);
      }
      file.add(plan.view(table.table), slots);
    }
    const Read found = read(file.finish());
    ASSERT_EQ(found.plans.items.size(), plans.size());
    for (std::size_t at = 0; at < plans.size(); ++at) {
      expect_same(found, found.plans.items[at], plans[at].view(table.table), table);
      rows += plans[at].view(table.table).size();
    }
  }
  EXPECT_GT(rows, 5'000U);
}

/// A file of a plan with one item for two of eight rows, and plans with other items.
struct Fixture {
  PlanFile file;
  std::string type = memo_get(file.memo().writes[2]);
  std::string properties = file.properties(1);
  std::uint32_t name = file.memoize(pickled_text("w"));

  std::string size(int rows, int columns) const {
    return memo_get(file.memo().size_class) + pickled_int(rows) + pickled_int(columns) +
           "\x86\x85R";
  }
  std::string chunk(int first) const {
    return memo_get(file.memo().chunk_class) + ")\x81}(" + memo_get(file.memo().offsets) +
           size(first, 0) + memo_get(file.memo().sizes) + size(2, 4) + "ub";
  }
  std::string index(int first) const {
    return memo_get(file.memo().index_class) + ")\x81}(" + memo_get(file.memo().fqn) +
           memo_get(name) + memo_get(file.memo().index) + "N" + memo_get(file.memo().offset) +
           size(first, 0) + "ub";
  }
  std::string data(const std::string& of_chunk, const std::string& of_properties) const {
    return memo_get(file.memo().data_class) + ")\x81}(" + memo_get(file.memo().chunk) + of_chunk +
           memo_get(file.memo().properties) + of_properties + memo_get(file.memo().size) +
           size(8, 4) + "ub";
  }
  std::string item(const std::string& of_index, const std::string& of_type,
                   const std::string& of_data, const std::string& more = "") const {
    return memo_get(file.memo().item_class) + ")\x81}(" + memo_get(file.memo().index) + of_index +
           memo_get(file.memo().type) + of_type + memo_get(file.memo().bytes_io_data) + "N" +
           memo_get(file.memo().tensor_data) + of_data + more + "ub";
  }
  std::string plain_item(int first) const {
    return item(index(first), type, data(chunk(first), properties));
  }
  static std::string list(const std::vector<std::string>& items) {
    std::string out = "](";
    for (const std::string& one : items) out += one;
    return out + "e";
  }
  Read read_lists(const std::vector<std::string>& lists) {
    file.begin();
    for (const std::string& one : lists) file.add_raw(one);
    return testing::read(file.finish());
  }
};

TEST(PlanReader, ReadsPlainItems) {
  Fixture fixture;
  const Read found =
      fixture.read_lists({Fixture::list({fixture.plain_item(0), fixture.plain_item(2)}),
                          Fixture::list({fixture.plain_item(0), fixture.plain_item(4)})});
  ASSERT_EQ(found.plans.items.size(), 2U);
  EXPECT_EQ(found.plans.items[0].rows.numbers, (Numbers{0, 0, 2, 4, 2, 0, 2, 4}));
  EXPECT_EQ(found.plans.items[0].table, found.plans.items[1].table);
  EXPECT_EQ(found.plans.properties.size(), 1U);
}

TEST(PlanReader, LeavesOtherItems) {
  const Fixture shapes;
  const std::string good = shapes.data(shapes.chunk(0), shapes.properties);
  const std::string no_offset = memo_get(shapes.file.memo().index_class) + ")\x81}(" +
                                memo_get(shapes.file.memo().fqn) + memo_get(shapes.name) +
                                memo_get(shapes.file.memo().index) + "Nub";
  const std::vector<std::string> others = {
      shapes.item(shapes.index(0), shapes.type, good, pickled_text("tag") + "N"),
      shapes.item(shapes.index(2), shapes.type, good),  // an offset that is not the chunk's
      shapes.item(shapes.index(0), pickled_text("SHARD"), good),
      shapes.item(shapes.index(0), pickled_global(kPlannerModule, "WriteItemType") + "K\x09\x85R",
                  good),
      shapes.item(shapes.index(0), shapes.type, "N"),
      shapes.item(no_offset, shapes.type, good),
      shapes.item(shapes.index(0), memo_get(shapes.file.memo().writes[0]), "N"),  // bytes
      shapes.item(no_offset, memo_get(shapes.file.memo().writes[0]), good),
      shapes.item(shapes.index(0), shapes.type, shapes.data(shapes.chunk(0), "N")),
      shapes.item(shapes.index(0), shapes.type, shapes.data("N", shapes.properties)),
      shapes.item(shapes.index(0), shapes.type, shapes.chunk(0)),
      memo_get(shapes.file.memo().item_class) + ")\x81",  // without a state
      "N",
  };
  for (const std::string& other : others) {
    Fixture fixture;
    SCOPED_TRACE(std::to_string(&other - others.data()));
    EXPECT_TRUE(
        fixture.read_lists({Fixture::list({fixture.plain_item(0), other})}).plans.items.empty());
  }
}

TEST(PlanReader, LeavesListsThatShareAChunkOrProperties) {
  for (const bool shares_chunk : {true, false}) {
    SCOPED_TRACE(shares_chunk);
    Fixture fixture;
    const std::string shared = shares_chunk ? fixture.chunk(0) : fixture.properties;
    const std::uint32_t slot = fixture.file.memoize(shared);
    const auto item = [&] {
      const std::string data = shares_chunk ? fixture.data(memo_get(slot), fixture.properties)
                                            : fixture.data(fixture.chunk(0), memo_get(slot));
      return fixture.item(fixture.index(0), fixture.type, data);
    };
    const Read found =
        fixture.read_lists({Fixture::list({item()}), Fixture::list({fixture.plain_item(0)}),
                            Fixture::list({fixture.plain_item(2), item()})});
    ASSERT_EQ(found.plans.items.size(), 1U);
    EXPECT_EQ(found.plans.items[0].rows.size(), 1U);
  }
}

TEST(PlanReader, ASharedListIsReadOnce) {
  Fixture fixture;
  const std::uint32_t slot = fixture.file.memoize(Fixture::list({fixture.plain_item(0)}));
  EXPECT_EQ(fixture.read_lists({memo_get(slot), memo_get(slot)}).plans.items.size(), 1U);
}

TEST(PlanReader, ManyReferencesToAnItemOfBytes) {
  Fixture fixture;
  const metadata::MetadataMemo& memo = fixture.file.memo();
  const std::string index = memo_get(memo.index_class) + ")\x81}(" + memo_get(memo.fqn) +
                            memo_get(fixture.name) + memo_get(memo.index) + "Nub";
  const std::uint32_t item =
      fixture.file.memoize(fixture.item(index, memo_get(memo.writes[0]), "N"));
  const Read found = fixture.read_lists({"](" + repeated(memo_get(item), 100'000) + "e"});
  ASSERT_EQ(found.plans.items.size(), 1U);
  EXPECT_EQ(found.plans.items[0].rows.size(), 100'000U);
  EXPECT_EQ(found.plans.items[0].table->columns.size(), 1U);
}

}  // namespace
}  // namespace shardplan::testing
