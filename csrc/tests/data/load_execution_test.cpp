#include "core/data/load_execution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "core/data/tensor_part.h"
#include "core/util/text.h"
#include "data/row_major_sink.h"
#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

/// File in memory.
class Memory final : public data::Source {
 public:
  explicit Memory(std::string bytes) : bytes_(std::move(bytes)) {}

  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override {
    if (offset >= fails_from) throw std::system_error(EIO, std::generic_category());
    if (offset >= bytes_.size()) return 0;
    const std::size_t given = std::min(count, bytes_.size() - static_cast<std::size_t>(offset));
    std::memcpy(into, bytes_.data() + offset, given);
    return given;
  }

  std::uint64_t fails_from = ~std::uint64_t{0};

 private:
  std::string bytes_;
};

/// File whose bytes arrive in memory of their own, as those of a request do.
class Lending final : public data::Source {
 public:
  Lending(std::string bytes, std::uint64_t max_request)
      : memory_(std::move(bytes)), max_request_(max_request) {}

  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override {
    note(count);
    return memory_.read_at(offset, into, count);
  }
  std::optional<data::LentBytes> lend(std::uint64_t offset, std::size_t count) const override {
    note(count);
    std::shared_ptr<std::string> bytes(new std::string(count, '\0'), [this](std::string* all) {
      lent_ -= all->capacity();
      delete all;  // NOLINT(cppcoreguidelines-owning-memory): a deleter that counts
    });
    lent_ += bytes->capacity();
    for (std::size_t most = most_lent;
         most < lent_ && !most_lent.compare_exchange_weak(most, lent_);) {
    }
    bytes->resize(memory_.read_at(offset, bytes->data(), count));
    return data::LentBytes{bytes, bytes->data(), bytes->size()};
  }

  mutable std::atomic<std::size_t> most_lent = 0;

 private:
  void note(std::size_t count) const {
    EXPECT_GT(count, 0U);
    EXPECT_LE(count, max_request_);
  }

  Memory memory_;
  std::uint64_t max_request_;
  mutable std::atomic<std::size_t> lent_ = 0;
};

std::string part_of_rows(std::int64_t rows, std::int64_t columns, const std::string& data) {
  PickledTensor tensor;
  tensor.elements = pickled_int(static_cast<int>(rows * columns));
  tensor.shape = pickled_int(static_cast<int>(rows)) + pickled_int(static_cast<int>(columns));
  tensor.strides = pickled_int(static_cast<int>(columns)) + pickled_int(1);
  return tensor_part(tensor.pickle(), data);
}

/// A file of float32 tensors with two dims, and boxes of them.
struct Case {
  std::string file;
  std::vector<std::string> tensors;
  std::vector<Numbers> shapes;
  std::vector<std::uint64_t> begins;
  std::vector<std::uint64_t> lengths;

  std::vector<Numbers> numbers;  // per request: offsets, lengths, strides of the target
  std::vector<std::size_t> tensor_of;
  std::vector<std::string> targets;
  std::vector<data::ReadRequest> requests;

  void add_tensor(std::int64_t rows, std::int64_t columns, std::mt19937& random) {
    std::string data(static_cast<std::size_t>(rows * columns) * 4, '\0');
    for (char& byte : data) byte = static_cast<char>(random());
    const std::string part = part_of_rows(rows, columns, data);
    begins.push_back(file.size());
    lengths.push_back(part.size());
    shapes.push_back({rows, columns});
    file += part;
    tensors.push_back(std::move(data));
  }

  void add_request(std::size_t tensor, const Numbers& offsets, const Numbers& sizes) {
    numbers.push_back(offsets);
    numbers.push_back(sizes);
    numbers.push_back({sizes[1], 1});
    tensor_of.push_back(tensor);
    targets.emplace_back(static_cast<std::size_t>(sizes[0] * sizes[1]) * 4, '\0');
  }

  void make_requests(bool direct) {
    for (std::size_t at = 0; at < targets.size(); ++at) {
      data::ReadRequest request;
      request.begin = begins[tensor_of[at]];
      request.length = lengths[tensor_of[at]];
      request.offsets = numbers[3 * at];
      request.lengths = numbers[3 * at + 1];
      request.dtype = "float32";
      request.element_size = 4;
      request.target = direct ? targets[at].data() : nullptr;
      request.target_strides = numbers[3 * at + 2];
      requests.push_back(request);
    }
  }

  std::string expected(std::size_t at) const {
    const Numbers& offsets = numbers[3 * at];
    const Numbers& sizes = numbers[3 * at + 1];
    std::string bytes;
    for (std::int64_t row = 0; row < sizes[0]; ++row) {
      const auto begin = static_cast<std::size_t>(
          ((offsets[0] + row) * shapes[tensor_of[at]][1] + offsets[1]) * 4);
      bytes += tensors[tensor_of[at]].substr(begin, static_cast<std::size_t>(sizes[1]) * 4);
    }
    return bytes;
  }

  data::LoadResult load(std::size_t threads, std::shared_ptr<const data::Source> source = nullptr,
                        bool verify = false, const data::ReadSizes& sizes = data::kFileSizes,
                        std::uint64_t max_in_flight = ~std::uint64_t{0}) {
    data::LoadOptions options;
    options.sizes = sizes;
    options.max_in_flight = max_in_flight;
    options.threads = threads;
    options.verify = verify;
    if (source == nullptr) source = std::make_shared<Memory>(file);
    options.open = [source](std::uint32_t) { return source; };
    options.make_sink = [this] { return std::make_unique<RowMajorSink>(requests, targets, 4096); };
    return data::load(requests, options);
  }
};

Case random_case(std::mt19937& random) {
  Case made;
  const auto below = [&](std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
  };
  for (std::int64_t count = 1 + below(8); count > 0; --count) {
    made.add_tensor(1 + below(40), 1 + below(below(3) == 0 ? 3000 : 60), random);
  }
  for (std::int64_t count = below(20); count > 0; --count) {
    const auto tensor =
        static_cast<std::size_t>(below(static_cast<std::int64_t>(made.tensors.size())));
    const Numbers& shape = made.shapes[tensor];
    const Numbers offsets{below(shape[0]), below(shape[1])};
    Numbers sizes{below(shape[0] - offsets[0] + 1), below(shape[1] - offsets[1] + 1)};
    made.add_request(tensor, offsets, sizes);
  }
  return made;
}

TEST(Load, RandomBoxesOfRandomTensors) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    Case made = random_case(random);
    made.make_requests(round % 3 != 0);
    const data::LoadResult result = made.load(1 + random() % 3, nullptr, round % 5 == 0);
    EXPECT_EQ(result.error, nullptr);
    EXPECT_TRUE(result.unread.empty());
    for (std::size_t at = 0; at < made.targets.size(); ++at) {
      EXPECT_EQ(result.outcomes[at], data::Outcome::kRead);
      EXPECT_EQ(made.targets[at], made.expected(at)) << "round " << round << ", request " << at;
    }
  }
}

TEST(Load, TensorsWhoseLocationIsKnown) {
  std::mt19937 random(6);
  for (int round = 0; round < 100; ++round) {
    Case made = random_case(random);
    // Data alone, one after another, as in a safetensors file.
    made.file = "header";
    std::vector<data::StoredTensor> stored(made.tensors.size());
    for (std::size_t at = 0; at < stored.size(); ++at) {
      stored[at].dtype = "float32";
      stored[at].element_size = 4;
      stored[at].shape = made.shapes[at];
      stored[at].strides = {made.shapes[at][1], 1};
      stored[at].storage_size = stored[at].reach = made.tensors[at].size();
      made.begins[at] = made.file.size();
      made.lengths[at] = made.tensors[at].size();
      made.file += made.tensors[at];
    }
    made.make_requests(round % 3 != 0);
    std::uint64_t wanted = 0;
    for (std::size_t at = 0; at < made.requests.size(); ++at) {
      made.requests[at].stored = &stored[made.tensor_of[at]];
      wanted += made.requests[at].bytes_wanted();
    }
    const data::LoadResult result = made.load(1 + random() % 3, nullptr, round % 5 == 0);
    EXPECT_EQ(result.error, nullptr);
    EXPECT_TRUE(result.unread.empty());
    EXPECT_EQ(result.bytes_wanted, wanted);
    for (std::size_t at = 0; at < made.targets.size(); ++at) {
      EXPECT_EQ(result.outcomes[at], data::Outcome::kRead);
      EXPECT_EQ(made.targets[at], made.expected(at)) << "round " << round << ", request " << at;
    }
  }
}

TEST(Load, LargeTensorsAreSplitOverThreads) {
  std::mt19937 random(2);
  Case made;
  made.add_tensor(4096, 5000, random);  // 80 MB
  made.add_request(0, {0, 0}, {4096, 5000});
  made.add_request(0, {1, 7}, {4095, 4000});
  made.make_requests(true);
  const data::LoadResult result = made.load(4);
  EXPECT_EQ(result.error, nullptr);
  for (std::size_t at = 0; at < 2; ++at) {
    EXPECT_EQ(result.outcomes[at], data::Outcome::kRead);
    EXPECT_TRUE(made.targets[at] == made.expected(at));
  }
}

TEST(Load, RandomBoxesByRequests) {
  constexpr std::uint64_t kMax = std::uint64_t{1} << 20;
  std::mt19937 random(4);
  for (int round = 0; round < 100; ++round) {
    Case made = random_case(random);
    made.make_requests(round % 3 != 0);
    const auto source = std::make_shared<Lending>(made.file, kMax);
    const data::LoadResult result =
        made.load(1 + random() % 3, source, round % 5 == 0, data::request_sizes(kMax));
    EXPECT_EQ(result.error, nullptr);
    for (std::size_t at = 0; at < made.targets.size(); ++at) {
      EXPECT_EQ(result.outcomes[at], data::Outcome::kRead);
      EXPECT_EQ(made.targets[at], made.expected(at)) << "round " << round << ", request " << at;
    }
  }
}

TEST(Load, FewRequestsReadManySmallTensorsAndStripsOfLargeOnes) {
  std::mt19937 random(4);
  constexpr std::uint64_t kMax = std::uint64_t{4} << 20;
  Case small;
  for (std::size_t at = 0; at < 3000; ++at) {
    small.add_tensor(8, 8, random);
    small.add_request(at, {0, 0}, {8, 8});
  }
  small.make_requests(true);
  auto source = std::make_shared<Lending>(small.file, kMax);
  data::LoadResult result = small.load(1, source, true, data::request_sizes(kMax));
  EXPECT_EQ(result.error, nullptr);
  EXPECT_EQ(result.reads, (small.file.size() + kMax - 1) / kMax);
  EXPECT_LE(source->most_lent, kMax + 64);
  for (std::size_t at = 0; at < 3000; ++at) EXPECT_EQ(small.targets[at], small.expected(at));

  Case strip;
  strip.add_tensor(512, 8192, random);  // 16 MiB, rows of 32 KiB
  strip.add_request(0, {0, 64}, {512, 8});
  strip.make_requests(true);
  source = std::make_shared<Lending>(strip.file, kMax);
  result = strip.load(1, source, false, data::request_sizes(kMax));
  EXPECT_EQ(result.error, nullptr);
  EXPECT_LE(result.reads, 2 + 5U);
  EXPECT_TRUE(strip.targets[0] == strip.expected(0));
}

TEST(Load, BytesInFlightAreBounded) {
  constexpr std::uint64_t kMax = std::uint64_t{1} << 20;
  std::mt19937 random(4);
  Case made;
  for (std::size_t at = 0; at < 40; ++at) {
    made.add_tensor(300, 300 + static_cast<std::int64_t>(at) * 40, random);
    made.add_request(at, {0, 0}, {300, 300});
  }
  made.make_requests(true);
  for (const std::uint64_t max_in_flight : {kMax / 4, 2 * kMax, 3 * kMax}) {
    const auto source = std::make_shared<Lending>(made.file, kMax);
    const data::LoadResult result =
        made.load(8, source, false, data::request_sizes(kMax), max_in_flight);
    EXPECT_EQ(result.error, nullptr);
    // A read of more than what is allowed is made alone. The ends of 8 parts are not counted.
    EXPECT_LE(source->most_lent, std::max(kMax, max_in_flight) + 16 * (1 << 14) + 1024);
    for (std::size_t at = 0; at < 40; ++at) EXPECT_EQ(made.targets[at], made.expected(at));
  }
}

TEST(Load, AStripReadsOnlyItsPages) {
  std::mt19937 random(2);
  Case made;
  made.add_tensor(512, 8192, random);  // rows of 32 KiB
  made.add_request(0, {0, 64}, {512, 8});
  made.make_requests(true);
  const data::LoadResult result = made.load(1);
  EXPECT_TRUE(made.targets[0] == made.expected(0));
  // The head of the part, which was read to locate the tensor, has the first row.
  EXPECT_EQ(result.bytes_read, 511 * 32 + 2 * data::kFileSizes.part_end);
  EXPECT_EQ(result.reads, 511 + 2);
}

TEST(Load, BoxesThatThePartDoesNotHaveAreLeftUnread) {
  std::mt19937 random(2);
  Case made;
  made.add_tensor(4, 6, random);
  made.add_request(0, {0, 0}, {4, 6});
  made.add_request(0, {2, 0}, {3, 6});
  made.add_request(0, {-1, 0}, {3, 6});
  made.add_request(0, {100, -9}, {4, 6});  // upstream does not look at offsets of whole dims
  made.make_requests(true);
  made.requests.push_back(made.requests[0]);
  made.requests.back().lengths = std::span(made.requests[0].lengths).first(1);
  const data::LoadResult result = made.load(1);
  using enum data::Outcome;
  EXPECT_EQ(result.outcomes, (std::vector{kRead, kUnread, kUnread, kRead, kUnread}));
  EXPECT_EQ(made.targets[3], made.tensors[0]);
  EXPECT_EQ(made.targets[1], std::string(3 * 6 * 4, '\0'));
}

TEST(Load, OtherPartsAreLeftUnreadWithAReason) {
  std::mt19937 random(2);
  Case made;
  made.add_tensor(4, 6, random);
  made.add_request(0, {0, 0}, {4, 6});
  made.make_requests(true);
  made.requests[0].length -= 1;
  const data::LoadResult result = made.load(1);
  EXPECT_EQ(result.error, nullptr);
  EXPECT_EQ(result.outcomes[0], data::Outcome::kUnread);
  ASSERT_EQ(result.unread.size(), 1);
  EXPECT_NE(result.unread[0].why.find("has no zip end record"), std::string::npos);
}

std::string message_of(const data::LoadResult& result) {
  try {
    if (result.error != nullptr) std::rethrow_exception(result.error);
  } catch (const data::FailedRead& problem) {
    return problem.what() + std::string(problem.system_error() == EIO ? " (EIO)" : "");
  }
  return "nothing";
}

TEST(Load, FilesThatEndInATensorWhoseLocationIsKnown) {
  Case made;
  std::mt19937 random(7);
  made.add_tensor(100, 1000, random);
  made.add_request(0, {0, 0}, {100, 1000});
  data::StoredTensor stored;
  stored.dtype = "float32";
  stored.element_size = 4;
  stored.shape = {100, 1000};
  stored.strides = {1000, 1};
  stored.storage_size = stored.reach = 400'000;
  made.file = made.tensors[0].substr(0, 399'999);
  made.begins[0] = 0;
  made.lengths[0] = 400'000;
  made.make_requests(true);
  made.requests[0].stored = &stored;
  const data::LoadResult result = made.load(1);
  EXPECT_EQ(message_of(result), "ends at byte 399,999, within the part");
  EXPECT_EQ(result.outcomes[0], data::Outcome::kBegun);
}

TEST(Load, AFileThatEndsOrFailsWhileItIsReadNamesTheByte) {
  std::mt19937 random(2);
  Case made;
  made.add_tensor(2, 3, random);
  made.add_tensor(1000, 1000, random);
  made.add_request(0, {0, 0}, {2, 3});
  made.add_request(1, {0, 0}, {1000, 1000});
  made.make_requests(true);
  // The directory is still there: only the data is gone.
  class Shrunk final : public data::Source {
   public:
    explicit Shrunk(std::string bytes) : whole_(std::move(bytes)) {}
    std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override {
      if (count > data::kFileSizes.part_end && offset < 100000) {
        return whole_.read_at(offset, into, std::min(count, std::size_t{100000} - offset));
      }
      return count > data::kFileSizes.part_end ? 0 : whole_.read_at(offset, into, count);
    }

   private:
    Memory whole_;
  };
  const data::LoadResult shrunk = made.load(1, std::make_shared<Shrunk>(made.file));
  EXPECT_EQ(message_of(shrunk), "ends at byte 100,000, within the part");
  EXPECT_EQ(shrunk.failed, 1);
  EXPECT_EQ(shrunk.outcomes[0], data::Outcome::kRead);
  EXPECT_EQ(shrunk.outcomes[1], data::Outcome::kBegun);

  const auto failing = std::make_shared<Memory>(made.file);
  failing->fails_from = made.begins[1];
  const data::LoadResult failed = made.load(1, failing);
  EXPECT_EQ(message_of(failed),
            "cannot be read at byte " + util::grouped(made.begins[1]) + " (EIO)");
  EXPECT_EQ(failed.outcomes[0], data::Outcome::kRead);
  EXPECT_EQ(failed.outcomes[1], data::Outcome::kUnreached);
}

TEST(Load, ChecksumsAreComparedIfAsked) {
  std::mt19937 random(2);
  Case made;
  made.add_tensor(30, 1000, random);
  made.add_request(0, {0, 0}, {1, 10});
  made.make_requests(true);
  EXPECT_EQ(message_of(made.load(1, nullptr, true)), "nothing");
  // A byte that is not wanted is checked too.
  made.file[made.file.find(made.tensors[0].substr(0, 64)) + 100000] ^= 1;
  EXPECT_EQ(message_of(made.load(1)), "nothing");
  EXPECT_EQ(message_of(made.load(1, nullptr, true)).substr(0, 43),
            "has a wrong checksum in archive/data/0, byt");
}

TEST(Load, WholeTensorsAreReadOnceToBeVerified) {
  std::mt19937 random(2);
  for (const data::ReadSizes& sizes : {data::kFileSizes, data::request_sizes(1 << 20)}) {
    Case made;
    made.add_tensor(1000, 3000, random);  // 12 MB
    made.add_request(0, {0, 0}, {1000, 3000});
    made.make_requests(true);
    const std::uint64_t size = made.file.size();
    data::LoadResult result = made.load(2, nullptr, true, sizes);
    EXPECT_EQ(message_of(result), "nothing");
    EXPECT_LE(result.bytes_read, size + (1 << 15));
    EXPECT_TRUE(made.targets[0] == made.expected(0));
    EXPECT_EQ(result.outcomes[0], data::Outcome::kRead);
    made.file[size - 5000] ^= 1;
    result = made.load(2, nullptr, true, sizes);
    EXPECT_EQ(message_of(result).substr(0, 43), "has a wrong checksum in archive/data/0, byt");
    EXPECT_EQ(result.outcomes[0], data::Outcome::kBegun);
  }
}

TEST(Load, DamagedDataOfAnUnreadPartIsFoundToo) {
  for (const bool damaged : {false, true}) {
    std::mt19937 random(2);
    Case made;
    made.file = tensor_part("\x80\x02N.", std::string(100000, 'x'));  // None
    made.begins.push_back(0);
    made.lengths.push_back(made.file.size());
    made.shapes.push_back({1, 2});
    made.tensors.emplace_back(8, '\0');
    made.add_tensor(300, 300, random);
    made.add_request(0, {0, 0}, {1, 2});
    made.add_request(1, {0, 0}, {300, 300});
    made.make_requests(true);
    if (damaged) made.file[50000] ^= 1;
    const data::LoadResult result = made.load(1, nullptr, true);
    EXPECT_EQ(message_of(result).substr(0, 43),
              damaged ? "has a wrong checksum in archive/data/0, byt" : "nothing");
    EXPECT_EQ(result.unread.size(), damaged ? 0U : 1U);
    EXPECT_EQ(made.targets[1] == made.expected(1), !damaged);
  }
}

TEST(Load, AnExceptionOfTheCallerEndsAllThreads) {
  std::mt19937 random(2);
  Case made;
  for (int count = 0; count < 30; ++count) {
    made.add_tensor(500, 500, random);
    made.add_request(static_cast<std::size_t>(count), {0, 0}, {500, 500});
  }
  made.make_requests(true);
  data::LoadOptions options;
  options.threads = 3;
  const auto source = std::make_shared<Memory>(made.file);
  options.open = [&](std::uint32_t) { return source; };
  options.progress = [](std::uint64_t, std::uint64_t) { throw std::domain_error("stop"); };
  const data::LoadResult result = data::load(made.requests, options);
  ASSERT_NE(result.error, nullptr);
  EXPECT_THROW(std::rethrow_exception(result.error), std::domain_error);
}

TEST(Load, NoRequests) {
  data::LoadOptions options;
  options.threads = 2;
  const data::LoadResult result = data::load({}, options);
  EXPECT_EQ(result.error, nullptr);
}

}  // namespace
}  // namespace shardplan::testing
