#include "core/data/part_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;
using Positions = std::vector<std::size_t>;

class Memory final : public data::Source {
 public:
  explicit Memory(const std::string& bytes) : bytes_(bytes) {}
  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override {
    if (offset <= fails_at && fails_at < offset + count) {
      throw std::system_error(EIO, std::generic_category());
    }
    if (offset >= bytes_.size()) return 0;
    const std::size_t given = std::min(count, bytes_.size() - static_cast<std::size_t>(offset));
    std::memcpy(into, bytes_.data() + offset, given);
    read += given;
    return given;
  }
  std::uint64_t fails_at = ~std::uint64_t{0};
  mutable std::atomic<std::uint64_t> read = 0;

 private:
  const std::string& bytes_;
};

/// A file of float32 vectors, and what its metadata says of them.
struct Stored {
  std::string file;
  std::vector<Numbers> shapes;
  std::vector<data::ExpectedPart> parts;

  std::vector<std::string> data;

  explicit Stored(const Numbers& sizes) {
    for (const std::int64_t size : sizes) {
      shapes.push_back({size});
      data.emplace_back(static_cast<std::size_t>(size) * 4, 'x');
    }
    write();
  }

  void write() {
    file.clear();
    parts.clear();
    for (std::size_t at = 0; at < shapes.size(); ++at) {
      const Numbers& shape = shapes[at];
      PickledTensor tensor;
      tensor.elements = pickled_int(static_cast<int>(shape[0]));
      tensor.shape = tensor.elements;
      tensor.strides = pickled_int(1);
      const std::string part = tensor_part(tensor.pickle(), data[at]);
      parts.push_back({file.size(), part.size(), true, shape, "float32"});
      file += part;
    }
  }

  Positions unsound(std::size_t threads = 2) const {
    data::CheckOptions options;
    options.threads = threads;
    return data::find_unsound(std::make_shared<Memory>(file), parts, options);
  }
};

TEST(FindUnsound, SoundPartsOfAnySizeAreReadOnce) {
  Numbers sizes;
  for (int at = 0; at < 300; ++at) sizes.push_back(at % 50 == 0 ? 400'000 : 1 + at);
  const Stored stored(sizes);
  const auto source = std::make_shared<Memory>(stored.file);
  for (const std::size_t threads : {1, 4}) {
    data::CheckOptions options;
    options.threads = threads;
    source->read = 0;
    EXPECT_EQ(data::find_unsound(source, stored.parts, options), Positions());
    EXPECT_LT(source->read, stored.file.size() + (stored.file.size() >> 7));
  }
}

TEST(FindUnsound, EveryFlippedBitOfSmallAndLargeParts) {
  std::mt19937 random(3);
  Stored stored({5, 7, 300'000, 3});
  for (int round = 0; round < 400; ++round) {
    const std::size_t part = random() % 4;
    const data::ExpectedPart& expected = stored.parts[part];
    // Bytes of the records that nothing depends on (times, say) may change.
    const std::size_t at =
        static_cast<std::size_t>(expected.begin) +
        static_cast<std::size_t>(stored.file.substr(expected.begin).find("xxxx")) +
        random() % static_cast<std::size_t>(stored.shapes[part][0] * 4);
    stored.file[at] ^= static_cast<char>(1 << random() % 8);
    const std::string damaged = stored.file;
    EXPECT_EQ(stored.unsound(1 + random() % 3), Positions{part});
    stored.file[at] = 'x';
  }
  EXPECT_EQ(stored.unsound(), Positions());
}

TEST(FindUnsound, OtherShapesDtypesAndFormats) {
  Stored stored({5, 7, 9, 11, 13});
  const Numbers other{1, 7};
  stored.parts[1].shape = other;
  stored.parts[2].dtype = "int32";
  stored.parts[3].dtype = "";
  stored.parts[4].is_tensor = false;
  stored.parts[4].shape = {};
  EXPECT_EQ(stored.unsound(), (Positions{1, 2}));
  stored.file[static_cast<std::size_t>(stored.parts[0].begin)] = 'Q';
  stored.parts[3].length = 3;
  stored.parts[4].begin = stored.file.size() + 100;
  EXPECT_EQ(stored.unsound(), (Positions{0, 1, 2, 3, 4}));
  stored.parts[4].begin = ~std::uint64_t{0} - 5;
  EXPECT_EQ(stored.unsound(), (Positions{0, 1, 2, 3, 4}));
}

TEST(FindUnsound, AFailedReadIsOneOfItsPart) {
  const Stored stored({5, 7, 300'000, 3});
  for (const std::size_t failing : {0, 2}) {
    const auto source = std::make_shared<Memory>(stored.file);
    source->fails_at = stored.parts[failing].begin + stored.parts[failing].length / 2;
    EXPECT_EQ(data::find_unsound(source, stored.parts, {}), Positions{failing});
  }
}

TEST(FindUnsound, AnExceptionOfTheCallerEndsAllThreads) {
  const Stored stored(Numbers(2000, 5000));
  data::CheckOptions options;
  options.threads = 3;
  options.progress = [](std::uint64_t) { throw std::logic_error("enough"); };
  EXPECT_THROW(data::find_unsound(std::make_shared<Memory>(stored.file), stored.parts, options),
               std::logic_error);
}

Positions unequal(const Stored& a, const Stored& b, std::size_t threads) {
  std::vector<data::PartPair> pairs;
  for (std::size_t at = 0; at < a.parts.size(); ++at)
    pairs.push_back({0, 1, a.parts[at], b.parts[at]});
  const std::shared_ptr<const data::Source> sources[] = {std::make_shared<Memory>(a.file),
                                                         std::make_shared<Memory>(b.file)};
  data::CheckOptions options;
  options.threads = threads;
  return data::find_unequal([&](std::uint32_t file) { return sources[file]; }, pairs, options);
}

TEST(FindUnequal, EqualPartsAndThoseWithAnotherByte) {
  std::mt19937 random(3);
  const Numbers sizes{5, 7, 500'000, 3, 0};
  const Stored a(sizes);
  EXPECT_EQ(unequal(a, Stored(sizes), 2), Positions());
  for (int round = 0; round < 50; ++round) {
    Stored b(sizes);
    const std::size_t part = random() % 4;
    b.data[part][random() % b.data[part].size()] ^= 1;
    b.write();
    EXPECT_EQ(unequal(a, b, 1 + random() % 3), Positions{part});
    EXPECT_EQ(b.unsound(), Positions());
  }
}

TEST(FindUnequal, DamagedPartsAreNotEqual) {
  const Numbers sizes{5, 7};
  const Stored a(sizes);
  Stored b(sizes);
  b.file[b.file.find("xxxx")] = 'y';
  EXPECT_EQ(unequal(b, b, 1), Positions{0});
  EXPECT_EQ(unequal(a, b, 1), Positions{0});
  b.file.resize(b.parts[1].begin + 100);
  EXPECT_EQ(unequal(a, b, 2), (Positions{0, 1}));
}

TEST(FindUnsound, NoParts) {
  const std::string nothing;
  EXPECT_EQ(data::find_unsound(std::make_shared<Memory>(nothing), {}, {}), Positions());
  EXPECT_EQ(data::find_unequal({}, {}, {}), Positions());
}

}  // namespace
}  // namespace shardplan::testing
