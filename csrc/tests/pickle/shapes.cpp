#include "pickle/shapes.h"

#include <cstdint>
#include <ostream>
#include <string_view>

#include "pickle/parts.h"

namespace shardplan::testing {
namespace {

using namespace std::string_literals;

std::string state(const std::string& items) {
  return ")\x81}("s + items + "ub";
}
std::string object(std::string_view module, std::string_view cls, const std::string& items) {
  return pickled_global(module, cls) + state(items);
}
std::string size_of(std::size_t ndim) {
  return pickled_global("torch", "Size") + "(" + repeated("K\x01", ndim) + "t\x85R";
}
std::string number(std::size_t at) {
  return std::to_string(at);
}

/// Pickled Metadata with the given entries and locations. `first` are opcodes that fill the memo.
std::string metadata(const std::string& first, const std::string& entries,
                     const std::string& locations, const std::string& more = "") {
  return "\x80\x04" + first +
         object(kMetadataModule, "Metadata",
                pickled_text("state_dict_metadata") + "}(" + entries + "u" +
                    pickled_text("storage_data") + "}(" + locations + "u" + more) +
         ".";
}

std::string tensor(const std::string& properties, const std::string& size,
                   const std::string& chunks) {
  return object(kMetadataModule, "TensorStorageMetadata",
                pickled_text("properties") + properties + pickled_text("size") + size +
                    pickled_text("chunks") + chunks);
}
std::string properties() {
  return pickled_global(kMetadataModule, "TensorProperties") + ")\x81";
}
std::string chunk(const std::string& offsets, const std::string& sizes) {
  return object(kMetadataModule, "ChunkStorageMetadata",
                pickled_text("offsets") + offsets + pickled_text("sizes") + sizes);
}
std::string index(const std::string& fqn) {
  return object(kMetadataModule, "MetadataIndex",
                pickled_text("fqn") + fqn + pickled_text("index") + "N");
}

/// Stores `value` in memo entry `at` and pops it from the stack.
std::string kept(const std::string& value, std::uint32_t at = 0) {
  return value + memo_put(at) + "0";
}

template <typename Part>
std::string each(std::size_t count, Part&& part) {
  std::string all;
  for (std::size_t at = 0; at < count; ++at) all += part(at);
  return all;
}

std::string attributes(std::size_t count) {
  return each(count, [](std::size_t at) { return pickled_text("a" + number(at)) + "N"; });
}

std::string numbers_list(std::size_t count) {
  return "](" + repeated("K\x01", count) + "e";
}

std::string copies(const char* cls, const std::string& of, std::size_t count) {
  const std::string copy = memo_get(0) + memo_get(1) + "\x85R0";
  return "\x80\x04" + kept(pickled_global(cls == "Size"s ? "torch" : "builtins", cls)) +
         kept(of, 1) + repeated(copy, count) + "N.";
}

// Step between memo keys that share a bucket in a hash table with the identity hash.
std::uint32_t buckets_of(std::size_t count) {
  return count < 1'000 ? 541 : count < 10'000 ? 5'087 : 85'229;
}

const PickleShape kShapes[] = {
    {"AttributesOfTheMetadata",
     [](std::size_t count) { return metadata("", "", "", attributes(count)); }, ""},
    {"AttributesOfALocation",
     [](std::size_t count) {
       const std::string location = object(kFilesModule, "_StorageInfo", attributes(count));
       return metadata("", "", index(pickled_text("a")) + location);
     },
     ""},
    {"ListCopiedByItsReferences",
     [](std::size_t count) { return copies("list", numbers_list(count), count); },
     "the limit is 4 per byte"},
    {"SetsOfOneList", [](std::size_t count) { return copies("set", numbers_list(count), count); },
     "the limit is 4 per byte"},
    {"SizesOfOneList", [](std::size_t count) { return copies("Size", numbers_list(254), count); },
     "the limit is 4 per byte"},
    {"SizeOfALongList", [](std::size_t count) { return copies("Size", numbers_list(count), 1); },
     "the limit is 254"},
    {"ListsOfTheirOwn",
     [](std::size_t count) {
       return "\x80\x04" + kept(pickled_global("builtins", "set")) +
              repeated(memo_get(0) + "](K\x01K\x02K\x03" + "e\x85R0", count) + "N.";
     },
     "no Metadata"},
    {"StateSharedByRecords",
     [](std::size_t count) {
       return "\x80\x04" + kept(pickled_global(kMetadataModule, "MetadataIndex")) +
              kept("}(" + attributes(count) + "u", 1) +
              repeated(memo_get(0) + ")\x81" + memo_get(1) + "b0", count) + "N.";
     },
     "no Metadata"},
    {"StateSharedByLocations",
     [](std::size_t count) {
       return metadata(
           kept(pickled_global(kFilesModule, "_StorageInfo")) +
               kept("}(" + attributes(count) + "u", 1) + kept(index(pickled_text("a")), 2),
           "", repeated(memo_get(2) + memo_get(0) + ")\x81" + memo_get(1) + "b", count));
     },
     "the limit is 8 per byte"},
    {"StateSharedByTensors",
     [](std::size_t count) {
       return metadata(kept(pickled_global(kMetadataModule, "TensorStorageMetadata")) +
                           kept("}(" + attributes(count) + "u", 1),
                       each(count,
                            [](std::size_t at) {
                              return pickled_text(number(at)) + memo_get(0) + ")\x81" +
                                     memo_get(1) + "b";
                            }),
                       "");
     },
     ""},
    {"StateSharedByProperties",
     [](std::size_t count) {
       return metadata(kept(pickled_global(kMetadataModule, "TensorProperties")) +
                           kept("(" + repeated("N", count) + "t", 1) + kept(size_of(1), 2),
                       each(count,
                            [](std::size_t at) {
                              return pickled_text(number(at)) +
                                     tensor(memo_get(0) + ")\x81" + memo_get(1) + "b", memo_get(2),
                                            "]");
                            }),
                       "");
     },
     ""},
    {"ChunksSharedByTensors",
     [](std::size_t count) {
       return metadata(
           kept(size_of(1)) +
               kept("](" +
                        each(count, [](std::size_t) { return chunk(memo_get(0), memo_get(0)); }) +
                        "e",
                    1) +
               kept(tensor(properties(), memo_get(0), memo_get(1)), 2),
           each(count, [](std::size_t at) { return pickled_text(number(at)) + memo_get(2); }), "");
     },
     "the limit is 8 per byte"},
    {"OneChunkOfManyDims",
     [](std::size_t count) {
       return metadata(kept(size_of(254)) + kept(chunk(memo_get(0), memo_get(0)), 1),
                       pickled_text("a") + tensor(properties(), memo_get(0),
                                                  "](" + repeated(memo_get(1), count) + "e"),
                       "");
     },
     "the limit is 8 per byte"},
    {"OffsetsOfManyDims",
     [](std::size_t count) {
       return metadata(kept(size_of(254)) + kept(pickled_global(kFilesModule, "_StorageInfo"), 1) +
                           kept(pickled_text("a"), 2) +
                           kept(pickled_global(kMetadataModule, "MetadataIndex"), 3) +
                           kept(pickled_text("fqn"), 4) + kept(pickled_text("index"), 5) +
                           kept(pickled_text("offset"), 6) +
                           kept(pickled_text("relative_path"), 7) + kept(pickled_text("length"), 8),
                       "",
                       repeated(memo_get(3) +
                                    state(memo_get(4) + memo_get(2) + memo_get(5) + "N" +
                                          memo_get(6) + memo_get(0)) +
                                    memo_get(1) +
                                    state(memo_get(7) + memo_get(2) + memo_get(6) + "K\x01" +
                                          memo_get(8) + "K\x01"),
                                count));
     },
     ""},
    {"GlobalsOfDtypes",
     [](std::size_t count) {
       return "\x80\x04" +
              each(count,
                   [](std::size_t at) {
                     return pickled_global("torch", "float" + number(at)) + "0";
                   }) +
              "N.";
     },
     "no Metadata"},
    {"LongNameOfManyChunks",
     [](std::size_t count) {
       const std::string name = kept(pickled_text(std::string(100 * count, 'n')));
       return metadata(name + kept(size_of(1), 1) + kept(chunk(memo_get(1), memo_get(1)), 2),
                       memo_get(0) + tensor(properties(), memo_get(1),
                                            "](" + repeated(memo_get(2), count) + "e"),
                       "");
     },
     ""},
    {"TextSharedByRemarks",
     [](std::size_t count) {
       const std::string text = kept(pickled_text(std::string(100 * count, 't')));
       return metadata(text, "", "", each(count, [](std::size_t at) {
                         return pickled_text("a" + number(at)) + memo_get(0);
                       }));
     },
     ""},
    {"MemoOfOneBucket",
     [](std::size_t count) {
       const std::uint32_t step = buckets_of(count);
       return "\x80\x04N" +
              each(count,
                   [step](std::size_t at) {
                     return memo_put(static_cast<std::uint32_t>(at + 1) * step);
                   }) +
              ".";
     },
     "no Metadata"},
    {"MemoOfRecordsInRecords",
     [](std::size_t count) {
       const std::string made = memo_get(0) + ")\x81";
       const std::string built =
           "}(" + memo_get(1) + memo_get(3) + memo_get(2) + memo_get(3) + "ub0";
       return "\x80\x04" + kept(pickled_global(kMetadataModule, "ChunkStorageMetadata")) +
              kept(pickled_text("offsets"), 1) + kept(pickled_text("sizes"), 2) +
              kept(size_of(1), 3) + repeated(made, count) + repeated("\x94", 4'000) +
              repeated(built, count) + "N.";
     },
     "no Metadata"},
    {"TuplesOfTuples",
     [](std::size_t count) { return "\x80\x04)" + repeated("\x85\x94", count) + "."; },
     "no Metadata"},
    {"TuplesThatDouble",
     [](std::size_t count) {
       return "\x80\x04)\x94" +
              each(count,
                   [](std::size_t at) {
                     return memo_get(static_cast<std::uint32_t>(at)) + "\x86\x94";
                   }) +
              ".";
     },
     "no Metadata"},
};

}  // namespace

void PrintTo(const PickleShape& shape, std::ostream* out) {
  *out << shape.name;
}

std::span<const PickleShape> pickle_shapes() {
  return kShapes;
}

}  // namespace shardplan::testing
