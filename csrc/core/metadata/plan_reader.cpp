#include "core/metadata/plan_reader.h"

#include <algorithm>
#include <array>
#include <optional>
#include <ranges>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace shardplan::metadata {
namespace {

using Tag = pickle::Tag;
using pickle::Value;

/// A WriteItem, as values of the pickle.
struct Item {
  columns::WriteKind kind = columns::WriteKind::kObject;
  pickle::Values::Index index;
  // Of a tensor:
  std::size_t chunk = 0;  // index in the chunks of the pickle
  Value properties;
  Value size;
};

class PlanReader {
 public:
  PlanReader(const pickle::Pickle& pickle, const util::TextTable& texts)
      : values_(pickle.values),
        texts_(texts),
        chunk_references_(pickle.values.chunks.size()),
        object_references_(pickle.values.objects.size()) {}

  void read() {
    const std::vector<Value> lists = item_lists();
    if (lists.empty()) return;
    for (const Value list : lists) count_references(list);
    for (const Value list : lists) {
      if (!read_items(list)) out_.items.pop_back();
    }
  }

  PickledPlans take() { return std::move(out_); }

 private:
  /// Returns the distinct lists of items of all plans.
  std::vector<Value> item_lists() const {
    std::vector<Value> lists;
    std::unordered_set<std::size_t> seen;
    for (std::size_t at = 0; at < values_.objects.size(); ++at) {
      const pickle::Values::Object& object = values_.objects[at];
      if (values_.globals[object.global].name != "SavePlan") continue;
      if (!object.built || object.state.tag() != Tag::kDict) continue;
      const auto list = attribute(object.state, "items");
      if (list && list->tag() == Tag::kList && seen.insert(list->at()).second) {
        lists.push_back(*list);
      }
    }
    return lists;
  }

  bool is_text(Value value, std::string_view expected) const {
    return value.tag() == Tag::kText && texts_[value.at()] == expected;
  }

  /// Returns an attribute of a state. Reads the first few only: many objects may share a state.
  std::optional<Value> attribute(Value state, std::string_view name) const {
    if (values_.holds_more_than(state, 2 * kMostAttributes)) return std::nullopt;
    std::optional<Value> found;
    Value key;
    bool is_key = true;
    values_.for_each(state, [&](Value value) {
      if (is_key) {
        key = value;
      } else if (is_text(key, name)) {
        found = value;
      }
      is_key = !is_key;
    });
    return found;
  }

  /// Reads the attributes of an object of class `cls`, which must have these names, in this order.
  template <std::size_t kCount>
  bool read_state(Value value, std::string_view cls,
                  const std::array<std::string_view, kCount>& names,
                  std::array<Value, kCount>& out) const {
    if (value.tag() != Tag::kObject) return false;
    const pickle::Values::Object& object = values_.objects[value.at()];
    if (!object.built || values_.globals[object.global].name != cls) return false;
    if (object.state.tag() != Tag::kDict || values_.holds_more_than(object.state, 2 * kCount)) {
      return false;
    }
    std::size_t at = 0;
    bool fits = true;
    values_.for_each(object.state, [&](Value one) {
      if (at % 2 == 0) {
        fits = fits && is_text(one, names[at / 2]);
      } else {
        out[at / 2] = one;
      }
      ++at;
    });
    return fits && at == 2 * kCount;
  }

  columns::WriteKind kind_of(Value type) const {
    if (type.tag() != Tag::kCall) return columns::WriteKind::kObject;
    const pickle::Values::Call& call = values_.calls[type.at()];
    if (call.global == pickle::Values::Call::kPersistentId ||
        values_.globals[call.global].name != "WriteItemType") {
      return columns::WriteKind::kObject;
    }
    const auto number = values_.front(call.arguments);
    if (!number || number->tag() != Tag::kInt) return columns::WriteKind::kObject;
    switch (number->number()) {
      case 1: return columns::WriteKind::kTensor;
      case 2: return columns::WriteKind::kShard;
      case 3: return columns::WriteKind::kBytes;
      default: return columns::WriteKind::kObject;
    }
  }

  bool read_item(Value value, Item& out) const {
    std::array<Value, 4> item;
    constexpr std::array<std::string_view, 4> kItem{"index", "type", "bytes_io_data",
                                                    "tensor_data"};
    if (!read_state(value, "WriteItem", kItem, item)) return false;
    if (item[0].tag() != Tag::kIndex || item[2].tag() != Tag::kNone) return false;
    out.index = values_.indices[item[0].at()];
    out.kind = kind_of(item[1]);
    if (out.kind == columns::WriteKind::kObject) return false;
    if (out.kind == columns::WriteKind::kBytes) {
      return item[3].tag() == Tag::kNone && out.index.offset.tag() == Tag::kUnset &&
             out.index.chunk_index.tag() == Tag::kNone;
    }
    std::array<Value, 3> data;
    constexpr std::array<std::string_view, 3> kData{"chunk", "properties", "size"};
    if (!read_state(item[3], "TensorWriteData", kData, data)) return false;
    if (data[0].tag() != Tag::kChunk || data[1].tag() != Tag::kObject ||
        data[2].tag() != Tag::kSize || out.index.offset.tag() != Tag::kSize) {
      return false;
    }
    out.chunk = data[0].at();
    out.properties = data[1];
    out.size = data[2];
    const pickle::Values::Chunk& chunk = values_.chunks[out.chunk];
    const std::size_t ndim = out.size.ndim();
    return ndim <= columns::kMaxDims && chunk.offsets.ndim() == ndim &&
           chunk.sizes.ndim() == ndim &&
           std::ranges::equal(values_.size(out.index.offset), values_.size(chunk.offsets));
  }

  static void count(std::uint8_t& references) {
    references = std::min<std::uint8_t>(2, static_cast<std::uint8_t>(references + 1));
  }

  void count_references(Value list) {
    values_.for_each(list, [&](Value value) {
      Item item;
      if (!read_item(value, item) || item.kind == columns::WriteKind::kBytes) return;
      count(chunk_references_[item.chunk]);
      count(object_references_[item.properties.at()]);
    });
  }

  /// Appends the items of a list. Returns false if one of them cannot be read.
  bool read_items(Value list) {
    PickledItems& items = out_.items.emplace_back();
    items.list = list;
    PickledTable table;
    bool fits = true;
    values_.for_each(list, [&](Value value) {
      Item item;
      fits = fits && read_item(value, item) && add(items, table, item);
    });
    if (!fits) return false;
    const std::size_t before = out_.items.size() - 1;
    const bool same = before > 0 && *out_.items[before - 1].table == table;
    items.table = same ? out_.items[before - 1].table
                       : std::make_shared<const PickledTable>(std::move(table));
    return true;
  }

  bool add(PickledItems& items, PickledTable& table, const Item& item) {
    const bool has_tensor = columns::writes_tensor(item.kind);
    if (has_tensor &&
        (chunk_references_[item.chunk] > 1 || object_references_[item.properties.at()] > 1)) {
      return false;
    }
    const auto shape = has_tensor ? values_.size(item.size) : std::span<const std::int64_t>();
    const std::uint32_t row = has_tensor ? row_in(table, properties_row(item.properties)) : 0;
    if (table.names.empty() || table.names.back() != item.index.fqn) {
      table.names.push_back(item.index.fqn);
    }
    const auto name = static_cast<std::uint32_t>(table.names.size() - 1);
    const std::uint32_t entry = table.columns.push_if_new(name, item.kind, row, shape);
    const Value index = item.index.chunk_index;
    columns::push_chunk_index(items.chunk_indices, items.rows.size(),
                              index.tag() == Tag::kInt ? index.number() : columns::kNoChunkIndex);
    std::int64_t* numbers = items.rows.push(entry, shape.size());
    if (has_tensor) {
      const pickle::Values::Chunk& chunk = values_.chunks[item.chunk];
      numbers = std::ranges::copy(values_.size(chunk.offsets), numbers).out;
      std::ranges::copy(values_.size(chunk.sizes), numbers);
    }
    return true;
  }

  /// Returns the row of a TensorProperties. Objects with the same state share a row.
  std::uint32_t properties_row(Value properties) {
    return columns::row_of(out_.properties, properties,
                           [&](Value known) { return same_state(known, properties); });
  }

  static std::uint32_t row_in(PickledTable& table, std::uint32_t properties) {
    return columns::row_of(table.properties, properties,
                           [&](std::uint32_t known) { return known == properties; });
  }

  bool same_state(Value a, Value b) const {
    const pickle::Values::Object& one = values_.objects[a.at()];
    const pickle::Values::Object& other = values_.objects[b.at()];
    return one.global == other.global && one.built == other.built &&
           same_tuple(one.state, other.state, 1);
  }

  /// Returns whether two values are the same, or tuples of values that are. Tuples in tuples are
  /// compared down to `depth`.
  bool same_tuple(Value a, Value b, int depth) const {
    if (a == b) return true;
    if (a.tag() != Tag::kTuple || b.tag() != Tag::kTuple) return false;
    if (values_.holds_more_than(a, kMostAttributes) ||
        values_.holds_more_than(b, kMostAttributes)) {
      return false;
    }
    std::array<Value, kMostAttributes> items;
    std::size_t count = 0;
    values_.for_each(a, [&](Value value) { items[count++] = value; });
    std::size_t at = 0;
    bool same = count == values_.count(b);
    values_.for_each(b, [&](Value value) {
      if (same && at < count)
        same = depth > 0 ? same_tuple(items[at], value, depth - 1) : items[at] == value;
      ++at;
    });
    return same;
  }

  // More than any version of the classes has, and than most tensors have dims.
  static constexpr std::size_t kMostAttributes = 16;

  const pickle::Values& values_;
  const util::TextTable& texts_;
  // Per chunk and per object of the pickle: 0, 1, or 2 for more references by items of plans.
  std::vector<std::uint8_t> chunk_references_;
  std::vector<std::uint8_t> object_references_;
  PickledPlans out_;
};

}  // namespace

PickledPlans read_pickled_plans(const pickle::Pickle& pickle, const util::TextTable& texts) {
  PlanReader reader(pickle, texts);
  reader.read();
  return reader.take();
}

}  // namespace shardplan::metadata
