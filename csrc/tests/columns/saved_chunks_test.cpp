#include "core/columns/saved_chunks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/metadata/metadata_reader.h"
#include "core/metadata/metadata_writer.h"
#include "core/pickle/frames.h"
#include "core/pickle/machine.h"
#include "core/wire/chunks.h"
#include "upstream_metadata.h"

namespace shardplan::testing {
namespace {

using namespace std::string_literals;

/// Tensors of up to 3 dims with random numbers, bytes, and object entries.
columns::SavedChunks random_chunks(unsigned seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t end) { return random() % end; };
  const auto number = [&]() -> std::int64_t {
    constexpr std::int64_t kUnreadable[] = {INT64_MIN, INT64_MAX, -1, 1LL << 40};
    return below(9) == 0 ? kUnreadable[below(4)] : static_cast<std::int64_t>(below(70'000));
  };
  columns::SavedChunks made;
  for (std::uint32_t entry = 0; entry < below(8); ++entry) {
    const auto kind = below(5) == 0   ? columns::WriteKind::kBytes
                      : below(5) == 0 ? columns::WriteKind::kObject
                                      : columns::WriteKind::kShard;
    if (kind != columns::WriteKind::kShard) {
      made.push(entry, kind, 0, {}, 0);
      continue;
    }
    std::vector<std::int64_t> shape(below(4));
    for (std::int64_t& size : shape) size = number();
    const std::size_t count = below(6);
    std::int64_t* numbers = made.push(entry, kind, 0, shape, count);
    for (std::size_t at = 0; at < count * 2 * shape.size(); ++at) {
      const std::size_t dim = at % (2 * shape.size());
      const bool whole = below(3) == 0;
      numbers[at] = !whole ? number() : dim < shape.size() ? 0 : shape[dim - shape.size()];
    }
  }
  return made;
}

void expect_same(const columns::SavedChunks& found, const columns::SavedChunks& expected) {
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_EQ(found.begin, expected.begin);
  ASSERT_EQ(found.numbers, expected.numbers);
  for (std::size_t entry = 0; entry < expected.size(); ++entry) {
    const std::size_t spec = found.table.spec[entry];
    const std::size_t other = expected.table.spec[entry];
    ASSERT_EQ(found.table.specs.kind[spec], expected.table.specs.kind[other]);
    ASSERT_TRUE(
        std::ranges::equal(found.table.specs.shape(spec), expected.table.specs.shape(other)));
  }
}

TEST(WireChunks, RoundTrip) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    const columns::SavedChunks chunks = random_chunks(seed);
    expect_same(wire::read_chunks(wire::write_chunks(chunks), chunks.table), chunks);
  }
}

TEST(WireChunks, EveryTruncationIsRejected) {
  const columns::SavedChunks chunks = random_chunks(11);
  const std::string bytes = wire::write_chunks(chunks);
  ASSERT_FALSE(bytes.empty());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(wire::read_chunks(bytes.substr(0, length), chunks.table), wire::BadWire);
  }
  EXPECT_THROW(wire::read_chunks(bytes + "x", chunks.table), wire::BadWire);
}

TEST(WireChunks, EveryChangedBitIsReadOrRejected) {
  const columns::SavedChunks chunks = random_chunks(11);
  const std::string bytes = wire::write_chunks(chunks);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string broken = bytes;
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << (bit % 8)));
    try {
      const columns::SavedChunks read = wire::read_chunks(broken, chunks.table);
      ASSERT_EQ(read.size(), chunks.size());
      ASSERT_LE(read.begin.back(), bytes.size());
    } catch (const wire::BadWire& problem) {
      ASSERT_NE(std::string(problem.what()).find("at byte"), std::string::npos);
    }
  }
}

TEST(SavedChunks, AppendToRejectsOverflow) {
  columns::SavedChunks chunks;
  const std::int64_t shape[] = {4};
  std::int64_t* numbers = chunks.push(0, columns::WriteKind::kShard, 0, shape, 2);
  std::ranges::copy(std::vector<std::int64_t>{0, 2, 2, 2}, numbers);
  boxes::Boxes boxes(1);
  EXPECT_TRUE(chunks.append_to(boxes, 0));
  ASSERT_EQ(boxes.size(), 2U);
  EXPECT_EQ(boxes.end(1, 0), 4);
  boxes::Boxes planes(2);
  EXPECT_FALSE(chunks.append_to(planes, 0));
  chunks.numbers[3] = INT64_MAX;
  EXPECT_FALSE(chunks.append_to(boxes, 0));
}

/// Pickle of the output of `write_entries`, with a hand-written memo.
std::string pickled(const columns::SavedChunks& chunks, const columns::StorageRows& rows) {
  const std::string metadata = "torch.distributed.checkpoint.metadata";
  std::string bytes;
  pickle::Writer out([&](std::string_view more) { bytes += more; });
  const auto keep = [&] {
    out.code(0x94);
    out.code('0');
  };
  const auto keep_class = [&](std::string_view module, std::string_view name) {
    out.text(module);
    out.text(name);
    out.code(0x93);
    keep();
  };
  keep_class("torch", "Size");
  keep_class(metadata, "ChunkStorageMetadata");
  keep_class(metadata, "TensorStorageMetadata");
  keep_class(metadata, "BytesStorageMetadata");
  keep_class(metadata, "MetadataIndex");
  keep_class("torch.distributed.checkpoint.filesystem", "_StorageInfo");
  const metadata::MetadataMemo memo{.size_class = 0,
                                    .chunk_class = 1,
                                    .tensor_class = 2,
                                    .bytes_class = 3,
                                    .index_class = 4,
                                    .location_class = 5,
                                    .offsets = 6,
                                    .sizes = 7,
                                    .properties = 8,
                                    .size = 9,
                                    .chunks = 10,
                                    .fqn = 11,
                                    .index = 12,
                                    .offset = 13,
                                    .relative_path = 14,
                                    .length = 15};
  for (const char* name : {"offsets", "sizes", "properties", "size", "chunks", "fqn", "index",
                           "offset", "relative_path", "length"}) {
    out.text(name);
    keep();
  }
  for (std::size_t entry = 0; entry < chunks.size(); ++entry) {
    out.text("entry " + std::to_string(entry));
    keep();
  }
  const auto first_name = static_cast<std::uint32_t>(16 + chunks.size());
  for (std::size_t name = 0; name < rows.names->size(); ++name) {
    out.text((*rows.names)[name]);
    keep();
  }
  const auto first_path = static_cast<std::uint32_t>(first_name + rows.names->size());
  for (std::size_t path = 0; path < rows.paths->size(); ++path) {
    out.text((*rows.paths)[path]);
    keep();
  }
  out.text(metadata);
  out.text("Metadata");
  out.code(0x93);
  for (const char code : {')', '\x81', '}', '('}) out.code(static_cast<std::uint8_t>(code));
  out.text("state_dict_metadata");
  metadata::EntryPickles pickles;
  pickles.first_name = 16;
  std::string properties = "\x8c"s + static_cast<char>(metadata.size()) + metadata +
                           "\x8c\x10TensorProperties\x93)\x81(t"s + "b";
  pickles.properties = {properties};
  pickles.objects = [](std::size_t) { return "N"s; };
  metadata::write_entries(out, memo, chunks, pickles);
  out.text("storage_data");
  metadata::write_storage(out, memo, rows, first_name, first_path);
  out.code('u');
  out.code('b');
  out.stop();
  return bytes;
}

TEST(MetadataWriter, RoundTrip) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    const columns::SavedChunks chunks = random_chunks(seed);
    columns::StorageRows rows;
    auto names = std::make_shared<util::TextTable>();
    auto paths = std::make_shared<util::TextTable>();
    const std::int64_t count = seed % 3 == 0 ? 2'500 : seed % 7;
    for (std::int64_t at = 0; at < count; ++at) {
      const std::string name = "name " + std::to_string(at % 300);
      const auto path = paths->number_of("path " + std::to_string(at % 5));
      rows.push(names->number_of(name), 1, at % 2 == 0 ? columns::kNoChunkIndex : at, path,
                at << 33, at)[0] = at;
    }
    rows.names = names;
    rows.paths = paths;
    std::string_view bytes;
    const std::string whole = pickled(chunks, rows);
    bytes = whole;
    pickle::Pickle pickle = pickle::read_pickle([&](char* into, std::size_t at_most) {
      const std::size_t got = std::min(bytes.size(), at_most);
      std::memcpy(into, bytes.data(), got);
      bytes.remove_prefix(got);
      return got;
    });
    const auto texts = std::make_shared<const util::TextTable>(std::move(pickle.values.texts));
    const auto read = metadata::read_pickled_metadata(pickle, texts);
    ASSERT_TRUE(read.has_value());
    ASSERT_TRUE(read->has_chunks);
    expect_same(read->chunks, chunks);
    ASSERT_TRUE(read->storage.has_value());
    ASSERT_EQ(read->storage->begin, rows.begin);
    ASSERT_EQ(read->storage->length, rows.length);
    ASSERT_EQ(read->storage->chunk_index, rows.chunk_index);
    ASSERT_EQ(read->storage->numbers, rows.numbers);
  }
}

TEST(PickleFrames, AreRemoved) {
  EXPECT_EQ(pickle::without_frames("\x80\x04\x95\x03\0\0\0\0\0\0\0K\x01."s), "K\x01");
  EXPECT_EQ(pickle::without_frames("\x80\x04N."s), "N");
  // A STOP byte within a string is not a STOP.
  EXPECT_EQ(pickle::without_frames("\x80\x04\x8c\x02..\x94."s), "\x8c\x02..\x94");
  const std::string_view upstream = upstream_pickle(4);
  const std::string plain = pickle::without_frames(upstream);
  EXPECT_EQ(plain, upstream.substr(11, upstream.size() - 12));
  for (std::size_t length = 0; length < upstream.size(); ++length) {
    EXPECT_THROW(pickle::without_frames(upstream.substr(0, length)), pickle::BadPickle);
  }
  EXPECT_THROW(pickle::without_frames("\x80\x04N.."s), pickle::BadPickle);
}

}  // namespace
}  // namespace shardplan::testing
