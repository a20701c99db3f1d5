#include "core/pickle/stack.h"

namespace shardplan {

PickleStack::PickleStack(const PickleSource& source) : in_(source) {
  // In the order of Attribute.
  for (const char* attribute :
       {"offsets", "sizes", "fqn", "index", "offset", "relative_path", "length"}) {
    values_.texts.number_of(attribute);
  }
}

PickleValue PickleStack::restored(PickleValue value) {
  std::vector<PickleValue> made;
  const auto attribute = [&](Attribute name, PickleValue is) {
    made.push_back(PickleValue(Tag::kText, name));
    made.push_back(is);
  };
  const auto number = [&](std::int64_t is) {
    push_int(is);
    return pop();
  };
  const PickleValue size(Tag::kSize, value.at());
  switch (value.tag()) {
    case Tag::kTupleOfSize:
      check_room(size.ndim());
      for (std::size_t i = 0; i < size.ndim(); ++i) {
        made.push_back(number(values_.numbers[size.first() + i]));
      }
      return pinned(container(Tag::kTuple, made));
    case Tag::kArgumentsOfSize:
      return pinned(container(Tag::kTuple, {restored(PickleValue(Tag::kTupleOfSize, value.at()))}));
    case Tag::kStateOfChunk:
      attribute(kOffsets, values_.chunks[value.at()].offsets);
      attribute(kSizes, values_.chunks[value.at()].sizes);
      break;
    case Tag::kStateOfIndex: {
      const PickleValues::Index index = values_.indices[value.at()];
      attribute(kFqn, PickleValue(Tag::kText, index.fqn));
      attribute(kHint, index.hint);
      if (index.offset.tag() != Tag::kUnset) attribute(kOffset, index.offset);
      break;
    }
    case Tag::kStateOfPlace: {
      const PickleValues::Place place = values_.places[value.at()];
      attribute(kPath, PickleValue(Tag::kText, place.path));
      attribute(kOffset, number(place.offset));
      attribute(kLength, number(place.length));
      break;
    }
    default: fail("asks for what it did not put into the memo");
  }
  return pinned(container(Tag::kDict, made));
}

}  // namespace shardplan
