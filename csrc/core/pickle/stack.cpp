#include "core/pickle/stack.h"

namespace shardplan::pickle {

Stack::Stack(const Source& source) : in_(source) {
  // In the order of Attribute.
  for (const char* attribute :
       {"offsets", "sizes", "fqn", "index", "offset", "relative_path", "length"}) {
    values_.texts.number_of(attribute);
  }
}

Value Stack::restored(Value value) {
  std::vector<Value> made;
  const auto attribute = [&](Attribute name, Value is) {
    made.push_back(Value(Tag::kText, name));
    made.push_back(is);
  };
  const auto number = [&](std::int64_t is) {
    push_int(is);
    return pop();
  };
  const Value size(Tag::kSize, value.at());
  switch (value.tag()) {
    case Tag::kTupleOfSize:
      check_room(size.ndim());
      for (std::size_t i = 0; i < size.ndim(); ++i) {
        made.push_back(number(values_.numbers[size.first() + i]));
      }
      return pinned(container(Tag::kTuple, made));
    case Tag::kArgumentsOfSize:
      return pinned(container(Tag::kTuple, {restored(Value(Tag::kTupleOfSize, value.at()))}));
    case Tag::kStateOfChunk:
      attribute(kOffsets, values_.chunks[value.at()].offsets);
      attribute(kSizes, values_.chunks[value.at()].sizes);
      break;
    case Tag::kStateOfIndex: {
      const Values::Index index = values_.indices[value.at()];
      attribute(kFqn, Value(Tag::kText, index.fqn));
      attribute(kChunkIndex, index.chunk_index);
      if (index.offset.tag() != Tag::kUnset) attribute(kOffset, index.offset);
      break;
    }
    case Tag::kStateOfLocation: {
      const Values::Location location = values_.locations[value.at()];
      attribute(kPath, Value(Tag::kText, location.path));
      attribute(kOffset, number(location.offset));
      attribute(kLength, number(location.length));
      break;
    }
    default: fail("reads a memo entry that is not set");
  }
  return pinned(container(Tag::kDict, made));
}

}  // namespace shardplan::pickle
