// What the threads of `data::write` do when one of them fails, waits or is interrupted.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "core/data/write_execution.h"
#include "data/parts_to_write.h"

namespace shardplan::testing {
namespace {

using std::chrono::milliseconds;

/// A file that calls a function instead of being written.
class Hooked final : public data::Output {
 public:
  using Call = std::function<void(std::uint64_t offset, std::size_t count)>;

  explicit Hooked(Call call) : call_(std::move(call)) {}

  void write_at(std::uint64_t offset, const char* /*bytes*/, std::size_t count) const override {
    ++calls_;
    call_(offset, count);
  }
  bool is_sequential() const override { return false; }
  std::size_t calls() const { return calls_; }

 private:
  Call call_;
  mutable std::atomic<std::size_t> calls_ = 0;
};

/// Lets threads wait for each other.
class Count {
 public:
  void add() {
    const std::scoped_lock lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  /// Returns whether the count has been reached in time.
  bool wait_for(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return count_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

Case of_sizes(std::size_t count, std::size_t size, bool is_staged = false) {
  std::mt19937 random(1);
  Case made;
  for (std::size_t at = 0; at < count; ++at) made.add(size, random, is_staged);
  made.point_to_data();
  return made;
}

int code_in(const data::WriteResult& result) {
  try {
    if (result.error != nullptr) std::rethrow_exception(result.error);
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

TEST(WriteThreads, AllOfThemWrite) {
  const Case made = of_sizes(12, 1'500'000);
  Count arrived;
  std::mutex mutex;
  std::set<std::thread::id> seen;
  const Hooked file([&](std::uint64_t, std::size_t) {
    bool is_new = false;
    {
      const std::scoped_lock lock(mutex);
      is_new = seen.insert(std::this_thread::get_id()).second;
    }
    if (is_new) arrived.add();
    EXPECT_TRUE(arrived.wait_for(3));
  });
  EXPECT_EQ(data::write(file, made.requests, options_of(made, 3)).error, nullptr);
  EXPECT_EQ(seen.size(), 3U);
}

TEST(WriteThreads, TheFirstErrorEndsTheOthers) {
  const Case made = of_sizes(200, 1'500'000);
  Count arrived;
  Count failed;
  std::mutex mutex;
  std::set<std::thread::id> seen;
  const Hooked file([&](std::uint64_t offset, std::size_t) {
    arrived.add();
    EXPECT_TRUE(arrived.wait_for(2));
    if (offset < made.requests[1].begin) {
      failed.add();
      throw std::system_error(ENOSPC, std::generic_category());
    }
    EXPECT_TRUE(failed.wait_for(1));
    std::this_thread::sleep_for(milliseconds(50));
    throw std::system_error(EIO, std::generic_category());
  });
  const data::WriteResult result = data::write(file, made.requests, options_of(made, 2));
  EXPECT_EQ(code_in(result), ENOSPC);
  EXPECT_EQ(result.failed, 0U);
  EXPECT_LT(file.calls(), 5U);
}

TEST(WriteThreads, OthersStopBetweenTheirWrites) {
  const Case made = of_sizes(2, 60'000'000);
  Count arrived;
  const Hooked file([&](std::uint64_t offset, std::size_t) {
    arrived.add();
    EXPECT_TRUE(arrived.wait_for(2));
    if (offset < made.requests[1].begin) throw std::system_error(EIO, std::generic_category());
    std::this_thread::sleep_for(milliseconds(20));
  });
  EXPECT_EQ(code_in(data::write(file, made.requests, options_of(made, 2))), EIO);
  EXPECT_LT(file.calls(), 30U);
}

TEST(WriteThreads, AnInterruptWithinALargeTensor) {
  const Case made = of_sizes(1, 60'000'000);
  const Hooked file(
      [](std::uint64_t, std::size_t) { std::this_thread::sleep_for(milliseconds(10)); });
  data::WriteOptions options = options_of(made, 1);
  int asked = 0;
  options.progress = [&](std::uint64_t) {
    if (++asked == 2) throw std::runtime_error("interrupted");
  };
  const data::WriteResult result = data::write(file, made.requests, options);
  ASSERT_NE(result.error, nullptr);
  EXPECT_THROW(std::rethrow_exception(result.error), std::runtime_error);
  EXPECT_LT(file.calls(), 30U);
}

TEST(WriteThreads, AnInterruptWhileTheCallerWaits) {
  const Case made = of_sizes(2, 3'000'000);
  const std::thread::id caller = std::this_thread::get_id();
  Count others;
  std::atomic<bool> interrupted = false;
  const Hooked file([&](std::uint64_t, std::size_t) {
    if (std::this_thread::get_id() == caller) {
      EXPECT_TRUE(others.wait_for(1));
      return;
    }
    others.add();
    for (int turn = 0; turn < 500 && !interrupted; ++turn) {
      std::this_thread::sleep_for(milliseconds(10));
    }
    EXPECT_TRUE(interrupted);
  });
  data::WriteOptions options = options_of(made, 2);
  int asked = 0;
  options.progress = [&](std::uint64_t) {
    if (++asked < 4) return;
    interrupted = true;
    throw std::runtime_error("interrupted");
  };
  const data::WriteResult result = data::write(file, made.requests, options);
  ASSERT_NE(result.error, nullptr);
  EXPECT_THROW(std::rethrow_exception(result.error), std::runtime_error);
}

TEST(WriteThreads, AFailureOfWhatIsGatheredIsOneOfTheLastPart) {
  const Case made = of_sizes(10, 100);
  const Hooked file(
      [](std::uint64_t, std::size_t) { throw std::system_error(ENOSPC, std::generic_category()); });
  const data::WriteResult result = data::write(file, made.requests, options_of(made, 1));
  EXPECT_EQ(code_in(result), ENOSPC);
  EXPECT_EQ(result.failed, 9U);
  EXPECT_EQ(file.calls(), 1U);
}

TEST(WriteThreads, AThreadHasOneSourceAndBoundedMemory) {
  const Case made = of_sizes(20, 2'000'000, true);
  std::size_t largest = 0;
  const Hooked file([&](std::uint64_t, std::size_t count) { largest = std::max(largest, count); });
  data::WriteOptions options = options_of(made, 1);
  int sources = 0;

  /// Gives pieces that are small enough to be gathered.
  class Small final : public data::StagingSource {
   public:
    explicit Small(const Case& made) : made_(made) {}
    void start(std::size_t request) override {
      request_ = request;
      done_ = 0;
    }
    std::string_view next() override {
      const std::string_view piece = std::string_view(made_.data[request_]).substr(done_, 30'000);
      done_ += piece.size();
      return piece;
    }

   private:
    const Case& made_;
    std::size_t request_ = 0;
    std::size_t done_ = 0;
  };
  options.make_source = [&] {
    ++sources;
    return std::make_unique<Small>(made);
  };
  EXPECT_EQ(data::write(file, made.requests, options).error, nullptr);
  EXPECT_EQ(sources, 1);
  EXPECT_LT(largest, (std::size_t{1} << 20) + 40'000);
}

TEST(WriteThreads, ProgressCountsTheBytesOfData) {
  const Case made = of_sizes(4, 2'000'000);
  const Hooked file(
      [](std::uint64_t, std::size_t) { std::this_thread::sleep_for(milliseconds(30)); });
  data::WriteOptions options = options_of(made, 1);
  std::vector<std::uint64_t> seen;
  options.progress = [&](std::uint64_t done) { seen.push_back(done); };
  EXPECT_EQ(data::write(file, made.requests, options).error, nullptr);
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_EQ(seen.front(), 0U);
  EXPECT_GE(seen.back(), 6'000'000U);
  EXPECT_LE(seen.back(), 8'000'000U);
}

}  // namespace
}  // namespace shardplan::testing
