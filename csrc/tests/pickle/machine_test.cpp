#include "core/pickle/machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/metadata/metadata_reader.h"
#include "upstream_metadata.h"

namespace shardplan::testing {
namespace {

using namespace std::string_literals;
using Tag = pickle::Tag;

pickle::Pickle read(std::string_view bytes, std::size_t at_once = 1 << 20) {
  return pickle::read_pickle([bytes, at_once](char* into, std::size_t at_most) mutable {
    const std::size_t count = std::min({bytes.size(), at_most, at_once});
    std::memcpy(into, bytes.data(), count);
    bytes.remove_prefix(count);
    return count;
  });
}

metadata::PickledMetadata metadata_in(pickle::Pickle& pickle) {
  const auto texts = std::make_shared<const util::TextTable>(std::move(pickle.values.texts));
  auto found = metadata::read_pickled_metadata(pickle, texts);
  if (!found) throw std::runtime_error("no metadata");
  return std::move(*found);
}

std::string why(std::string_view bytes) {
  try {
    read(bytes);
  } catch (const pickle::BadPickle& problem) {
    return problem.what();
  }
  return "nothing wrong";
}

std::vector<std::int64_t> numbers_of(const pickle::Pickle& pickle, pickle::Value value) {
  std::vector<std::int64_t> numbers;
  pickle.values.for_each(value, [&](pickle::Value item) { numbers.push_back(item.number()); });
  return numbers;
}

std::string text(std::string_view text) {
  return "\x8c"s + static_cast<char>(text.size()) + std::string(text);
}
std::string global(std::string_view module, std::string_view name) {
  return text(module) + text(name) + "\x93";
}
const std::string kMetadata = "torch.distributed.checkpoint.metadata";
const std::string kSize = global("torch", "Size");
const std::string kChunk = global(kMetadata, "ChunkStorageMetadata");

class UpstreamPickle : public ::testing::TestWithParam<std::pair<int, std::size_t>> {};

TEST_P(UpstreamPickle, BecomesColumns) {
  const auto [protocol, at_once] = GetParam();
  pickle::Pickle pickle = read(upstream_pickle(protocol), at_once);
  const metadata::PickledMetadata found = metadata_in(pickle);
  ASSERT_TRUE(found.has_chunks);
  ASSERT_EQ(found.chunks.size(), 2U);
  EXPECT_EQ(found.chunks.chunk_count(0), 2U);
  EXPECT_EQ(found.chunks.numbers, (std::vector<std::int64_t>{0, 0, 2, 300, 2, 0, 2, 300}));
  EXPECT_EQ(found.chunks.table.specs.kind[found.chunks.table.spec[1]], columns::WriteKind::kBytes);
  ASSERT_TRUE(found.storage.has_value());
  const columns::StorageRows& rows = *found.storage;
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ((*rows.names)[rows.name[1]], "a.b");
  EXPECT_EQ((*rows.paths)[rows.path[1]], "__1_0.distcp");
  EXPECT_EQ(rows.begin[1], 5'000'000'000);
  EXPECT_EQ(rows.length[2], 11);
  EXPECT_EQ(rows.chunk_index, (std::vector<std::int64_t>{0, 1, columns::kNoChunkIndex}));
  EXPECT_EQ(rows.ndim[2], columns::StorageRows::kNoOffset);
  EXPECT_EQ(found.attributes.size(), 5U);
}

// Records and sizes are found for any read size of the source.
INSTANTIATE_TEST_SUITE_P(ProtocolsAndSources, UpstreamPickle,
                         ::testing::Values(std::pair(2, 1U << 20), std::pair(4, 1U << 20),
                                           std::pair(2, 1U), std::pair(4, 1U), std::pair(4, 7U),
                                           std::pair(2, 13U)));

TEST(PickleMachine, EveryTruncationIsRejected) {
  for (const int protocol : {2, 4}) {
    const std::string_view whole = upstream_pickle(protocol);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      const std::string problem = why(whole.substr(0, length));
      ASSERT_NE(problem.find("is truncated, at byte " + std::to_string(length)), std::string::npos)
          << length << ": " << problem;
    }
  }
}

TEST(PickleMachine, EveryChangedBitIsReadOrRejected) {
  for (const int protocol : {2, 4}) {
    for (std::size_t bit = 0; bit < 8 * upstream_pickle(protocol).size(); ++bit) {
      std::string bytes(upstream_pickle(protocol));
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
      try {
        pickle::Pickle pickle = read(bytes);
        const auto texts = std::make_shared<const util::TextTable>(std::move(pickle.values.texts));
        metadata::read_pickled_metadata(pickle, texts);
      } catch (const pickle::BadPickle& problem) {
        ASSERT_NE(std::string(problem.what()).find("at byte"), std::string::npos) << problem.what();
      }
    }
  }
}

TEST(PickleMachine, Numbers) {
  EXPECT_EQ(read("\x80\x04K\xff."s).root.number(), 255);
  EXPECT_EQ(read("\x80\x04J\xff\xff\xff\xff."s).root.number(), -1);
  EXPECT_EQ(read("\x80\x04\x8a\x00."s).root.number(), 0);
  EXPECT_EQ(read("\x80\x04\x8a\x01\x80."s).root.number(), -128);
  const pickle::Pickle wide = read("\x80\x04\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."s);
  EXPECT_EQ(wide.root.tag(), Tag::kWideInt);
  EXPECT_EQ(wide.values.ints.at(wide.root.at()), INT64_MAX);
  EXPECT_EQ(read("\x80\x04\x8a\x09" + std::string(9, '\x01') + ".").root.tag(), Tag::kHugeInt);
  const pickle::Pickle real = read("\x80\x04G\x3f\xf8\0\0\0\0\0\0."s);
  EXPECT_EQ(real.values.floats.at(real.root.at()), 1.5);
}

TEST(PickleMachine, ReplacedTuplesAndDictsAreRebuilt) {
  // A size, then the tuple it was created from, then its argument tuple.
  const pickle::Pickle size =
      read("\x80\x04("s + kSize + "K\x03K\x05\x86\x94\x85\x94R\x94h\x00h\x01h\x00t."s);
  std::vector<pickle::Value> parts;
  size.values.for_each(size.root, [&](pickle::Value part) { parts.push_back(part); });
  ASSERT_EQ(parts.size(), 4U);
  EXPECT_EQ(parts[0].tag(), Tag::kSize);
  EXPECT_EQ(numbers_of(size, parts[1]), (std::vector<std::int64_t>{3, 5}));
  EXPECT_EQ(parts[1], parts[3]);  // one object, fetched twice
  EXPECT_EQ(parts[2].tag(), Tag::kTuple);

  // A chunk, then its state, which is changed after BUILD. The chunk does not change.
  const std::string number = kSize + "K\x07\x85\x85R";
  const pickle::Pickle chunk =
      read("\x80\x04("s + kChunk + ")\x81\x94}\x94(" + text("offsets") + number + text("sizes") +
           number + "ubh\x01"s + text("x") + "K\x01sh\x00t."s);
  parts.clear();
  chunk.values.for_each(chunk.root, [&](pickle::Value part) { parts.push_back(part); });
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].tag(), Tag::kChunk);
  EXPECT_EQ(parts[1].tag(), Tag::kDict);
  EXPECT_EQ(chunk.values.count(parts[1]), 6U);
  EXPECT_EQ(parts[2], parts[0]);
}

TEST(PickleMachine, MemoDoesNotReferToDroppedValues) {
  const std::string number = kSize + "K\x07\x85\x85R";
  const std::string chunk = text("offsets") + number + text("sizes") + number + "ub";
  // The state in many memo entries, in an earlier one, in one with a large index.
  const std::string made = "\x80\x04N\x94"s + kChunk + ")\x81\x94}";
  for (const std::string& kept :
       {"\x94\x94\x94\x94"s, "q\x00"s, "r\x00\x10\x00\x00\x94"s, std::string(5'000, '\x94')}) {
    for (const std::string& asked : {"h\x00"s, "h\x02"s, "h\x05"s, "j\x00\x10\x00\x00"s}) {
      try {
        const pickle::Pickle pickle = read(made + kept + "(" + chunk + asked + "\x86.");
        std::vector<pickle::Value> parts;
        pickle.values.for_each(pickle.root, [&](pickle::Value part) { parts.push_back(part); });
        ASSERT_EQ(parts.size(), 2U);
        if (parts[1].tag() == Tag::kDict) {
          EXPECT_EQ(pickle.values.count(parts[1]), 4U);
        }
      } catch (const pickle::BadPickle& problem) {
        EXPECT_NE(std::string(problem.what()).find("memo"), std::string::npos);
      }
    }
  }
  // The tuple of a size in a memo entry with a large index.
  const pickle::Pickle size = read("\x80\x04Nr\x00\x10\x00\x00("s + kSize +
                                   "K\x03K\x05\x86\x94\x85\x94R\x94j\x01\x00\x00\x00t."s);
  std::vector<pickle::Value> parts;
  size.values.for_each(size.root, [&](pickle::Value part) { parts.push_back(part); });
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(numbers_of(size, parts[1]), (std::vector<std::int64_t>{3, 5}));
}

TEST(PickleMachine, SharedStatesAreKept) {
  // The state is fetched from the memo before BUILD.
  const std::string number = kSize + "K\x07\x85\x85R";
  const pickle::Pickle pickle =
      read("\x80\x04("s + kChunk + ")\x81}\x94h\x00"s + "0(" + text("offsets") + number +
           text("sizes") + number + "ubh\x00t."s);
  std::vector<pickle::Value> parts;
  pickle.values.for_each(pickle.root, [&](pickle::Value part) { parts.push_back(part); });
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0].tag(), Tag::kObject);
  EXPECT_EQ(pickle.values.objects[parts[0].at()].state, parts[1]);
}

TEST(PickleMachine, ListThatHoldsItself) {
  const pickle::Pickle pickle = read("\x80\x04]\x94h\x00"s + "a.");
  std::vector<pickle::Value> items;
  pickle.values.for_each(pickle.root, [&](pickle::Value item) { items.push_back(item); });
  EXPECT_EQ(items, std::vector<pickle::Value>{pickle.root});
}

TEST(PickleMachine, ErrorNamesTheUnknownGlobal) {
  for (const std::string& name : {"\x80\x02"
                                  "cos\nsystem\n"s,
                                  "\x80\x04"s + global("os", "system")}) {
    try {
      read(name + text("echo") + "\x85R.");
      FAIL();
    } catch (const pickle::UnknownGlobal& problem) {
      EXPECT_NE(std::string(problem.what()).find("os.system"), std::string::npos);
    }
  }
  EXPECT_NE(why("\x80\x04" + global("torch", "load") + "."), "nothing wrong");
  EXPECT_NE(why("\x80\x04" + global("builtins", "eval") + "."), "nothing wrong");
  EXPECT_NE(why("\x80\x04" + global("pathlib", "os") + "."), "nothing wrong");
}

TEST(PickleMachine, RejectsBrokenAndUnsupportedPickles) {
  const std::vector<std::string> broken{
      "\x80\x01N."s,  // protocol
      "\x80\x06N."s,  //
      "\x80\x04."s,   // no value
      "\x80\x04"
      "0."s,                                            // empty stack
      "\x80\x04t."s,                                    // no mark
      "\x80\x04K\x01\x86."s,                            // too few values
      "\x80\x04(K\x01\x86."s,                           // values below a mark
      "\x80\x04h\x05."s,                                // memo entry not set
      "\x80\x04j\xff\xff\xff\xff."s,                    //
      "\x80\x04Nr\xff\xff\xff\xffj\xfe\xff\xff\xff."s,  //
      "\x80\x04\x8d\0\0\0\0\0\0\0\x10x."s,              // string of 2^60 bytes
      "\x80\x04\x8b\xff\xff\xff\x7f."s,                 // int of 2^31 bytes
      "\x80\x04}K\x01K\x02K\x03u."s,                    // SETITEMS without a mark
      "\x80\x04}(K\x01u."s,                             // key without a value
      "\x80\x04K\x01K\x02"
      "a."s,                                          // APPEND to an int
      "\x80\x04K\x01Q."s,                             // persistent id
      "\x80\x04\x82\x01."s,                           // extension
      "\x80\x04K\x01)R."s,                            // call of an int
      "\x80\x04" + kChunk + ")R.",                    // call of a class
      "\x80\x04" + kSize + ")\x81.",                  // NEWOBJ of torch.Size
      "\x80\x04" + kSize + ")R.",                     // torch.Size without arguments
      "\x80\x04" + kSize + text("x") + "\x85\x85R.",  // torch.Size of a string
      "\x80\x04" + kChunk + "K\x01\x85\x81.",         // NEWOBJ with arguments
      "\x80\x04" + kChunk + ")\x81}" + "b}b.",        // BUILD twice
      "\x80\x04K\x01}"
      "b."s,  // BUILD of an int
  };
  for (const std::string& bytes : broken) {
    EXPECT_NE(why(bytes).find("at byte"), std::string::npos) << why(bytes);
  }
}

TEST(PickleMachine, FramesMustBeComplete) {
  const auto framed = [](std::uint64_t length, const std::string& rest) {
    std::string bytes = "\x80\x04\x95"s;
    for (int at = 0; at < 8; ++at) bytes += static_cast<char>(length >> (8 * at));
    return bytes + rest;
  };
  // The pickle has 13 bytes and the frame begins at byte 11. Opcodes may extend beyond the frame.
  for (const std::uint64_t length : {0, 1, 2}) {
    EXPECT_EQ(read(framed(length, "N.")).root.tag(), Tag::kNone) << length;
  }
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{1} << 40, UINT64_MAX}) {
    EXPECT_EQ(why(framed(length, "N.")), "is truncated, at byte 13") << length;
  }
  // Bytes after STOP belong to the frame, for any read size of the source.
  const std::string after = framed(1'000'002, "N." + std::string(1'000'000, 'x'));
  for (const std::size_t at_once : {std::size_t{7}, std::size_t{1} << 20}) {
    EXPECT_EQ(read(after, at_once).root.tag(), Tag::kNone);
  }
  EXPECT_EQ(why(framed(1'000'003, after.substr(11))), "is truncated, at byte 1000013");
  // The frame with the largest end counts.
  EXPECT_EQ(why(framed(12, framed(0, "N.").substr(2))), "is truncated, at byte 22");
}

TEST(PickleMachine, SizesOfUpTo254Dims) {
  for (const std::size_t ndim : {65, 254}) {
    const std::string tuple = "(" + std::string(2 * ndim, 'K') + "t";
    for (const std::string& call : {"\x85R"s, "\x94\x85\x94R"s, "N0\x85R"s}) {
      const pickle::Pickle pickle = read("\x80\x04" + kSize + tuple + call + ".");
      ASSERT_EQ(pickle.root.tag(), Tag::kSize);
      EXPECT_EQ(pickle.values.size(pickle.root).size(), ndim);
      EXPECT_EQ(pickle.values.size(pickle.root)[ndim - 1], 'K');
    }
  }
  EXPECT_EQ(why("\x80\x04" + kSize + "(" + std::string(2 * 255, 'K') + "t\x85R."),
            "has a torch.Size of 255 dims (the limit is 254), at byte 530");
}

TEST(PickleMachine, RepeatedCopiesOfAListAreRejected) {
  const std::string list = "\x80\x04](" + std::string(10'000, 'N') + "e\x94";
  const std::string copy = global("builtins", "list") + "h\x00\x85R0"s;
  EXPECT_EQ(why(list + copy + copy + copy + copy + "N."),
            "makes 50,012 values from 10,093 bytes (the limit is 4 per byte), at byte 10093");
}

TEST(PickleMachine, DeepNestingDoesNotRecurse) {
  const std::size_t depth = 1'000'000;
  const pickle::Pickle pickle = read("\x80\x04)" + std::string(depth, '\x85') + ".");
  EXPECT_EQ(pickle.values.count(pickle.root), 1U);
  EXPECT_EQ(why("\x80\x04" + std::string(depth, '(')).find("is truncated"), 0U);
}

TEST(PickleMachine, ManyAppendsAreLinear) {
  // The tuple before each append ends the run of the list.
  std::string bytes = "\x80\x04]";
  const std::size_t count = 500'000;
  for (std::size_t at = 0; at < count; ++at)
    bytes +=
        "K\x01\x85"
        "a";
  const pickle::Pickle pickle = read(bytes + ".");
  EXPECT_EQ(pickle.values.count(pickle.root), count);
}

TEST(PickledMetadata, UnsupportedAndSharedEntriesHaveNoColumns) {
  pickle::Pickle number = read("\x80\x04K\x01."s);
  const auto texts = std::make_shared<const util::TextTable>(std::move(number.values.texts));
  EXPECT_FALSE(metadata::read_pickled_metadata(number, texts).has_value());

  const std::string cls = global(kMetadata, "Metadata") + ")\x81}(" + text("state_dict_metadata");
  // Duplicate key.
  pickle::Pickle twice =
      read("\x80\x04" + cls + "}(" + text("a") + "K\x01" + text("a") + "K\x02uub.");
  EXPECT_FALSE(metadata_in(twice).has_chunks);
  // Entry of another type.
  pickle::Pickle other = read("\x80\x04" + cls + "}(" + text("a") + "K\x01uub.");
  const metadata::PickledMetadata found = metadata_in(other);
  ASSERT_TRUE(found.has_chunks);
  EXPECT_EQ(found.chunks.table.specs.kind[found.chunks.table.spec[0]], columns::WriteKind::kObject);
}

}  // namespace
}  // namespace shardplan::testing
