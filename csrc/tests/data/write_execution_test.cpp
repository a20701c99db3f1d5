#include "core/data/write_execution.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "core/data/crc32.h"
#include "data/parts_to_write.h"

namespace shardplan::testing {
namespace {

/// A file without a name.
class TemporaryFile {
 public:
  TemporaryFile() : file_(std::tmpfile()) {}
  ~TemporaryFile() { std::fclose(file_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int descriptor() const { return ::fileno(file_); }
  std::string bytes() const {
    std::string all(static_cast<std::size_t>(::lseek(descriptor(), 0, SEEK_END)), '\0');
    EXPECT_EQ(::pread(descriptor(), all.data(), all.size(), 0), static_cast<ssize_t>(all.size()));
    return all;
  }

 private:
  std::FILE* file_;
};

TEST(Write, RandomPartsOnSeveralThreads) {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    Case made;
    for (std::size_t count = random() % 60; count > 0; --count) {
      const std::size_t size = random() % (random() % 4 == 0 ? 2'000'000 : 3'000);
      made.add(random() % 9 == 0 ? 0 : size, random, random() % 3 == 0,
               random() % 5 == 0 ? random() % 100 : 0);
    }
    made.point_to_data();
    const TemporaryFile file;
    const data::WriteResult result = data::write(data::OutputFile(file.descriptor()), made.requests,
                                                 options_of(made, 1 + random() % 4));
    EXPECT_EQ(result.error, nullptr);
    EXPECT_EQ(result.failed, made.requests.size());
    EXPECT_TRUE(file.bytes() == made.expected) << "round " << round;
  }
}

TEST(Write, WithoutChecksumsOfData) {
  std::mt19937 random(2);
  Case made;
  made.add(100'000, random, false);
  made.point_to_data();
  std::string expected = made.ends[0].head() + made.data[0];
  made.ends[0].append_tail(0, expected);
  data::WriteOptions options = options_of(made, 1);
  options.checksums = false;
  const TemporaryFile file;
  EXPECT_EQ(data::write(data::OutputFile(file.descriptor()), made.requests, options).error,
            nullptr);
  EXPECT_TRUE(file.bytes() == expected);
}

int code_of(const data::WriteResult& result) {
  try {
    if (result.error != nullptr) std::rethrow_exception(result.error);
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

TEST(Write, AFullDiskAndAClosedFile) {
  std::mt19937 random(3);
  Case made;
  for (int count = 0; count < 40; ++count) made.add(500'000, random, false);
  made.point_to_data();
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "there is no /dev/full";
  for (const std::size_t threads : {1, 3}) {
    const data::WriteResult result =
        data::write(data::OutputFile(full), made.requests, options_of(made, threads));
    EXPECT_EQ(code_of(result), ENOSPC);
    EXPECT_LT(result.failed, made.requests.size());
  }
  ::close(full);
  EXPECT_EQ(code_of(data::write(data::OutputFile(-1), made.requests, options_of(made, 2))), EBADF);
}

TEST(Write, OffsetsThatNoFileHas) {
  std::mt19937 random(4);
  Case made;
  made.add(10, random, false);
  made.point_to_data();
  made.requests[0].begin = ~std::uint64_t{0} - 5;
  const TemporaryFile file;
  EXPECT_EQ(
      code_of(data::write(data::OutputFile(file.descriptor()), made.requests, options_of(made, 1))),
      EFBIG);
}

TEST(Write, AnExceptionOfTheCallerEndsAllThreads) {
  std::mt19937 random(5);
  Case made;
  for (int count = 0; count < 30; ++count) made.add(1'000'000, random, false);
  made.point_to_data();
  data::WriteOptions options = options_of(made, 3);
  options.progress = [](std::uint64_t) { throw std::runtime_error("interrupted"); };
  const TemporaryFile file;
  const data::WriteResult result =
      data::write(data::OutputFile(file.descriptor()), made.requests, options);
  ASSERT_NE(result.error, nullptr);
  EXPECT_THROW(std::rethrow_exception(result.error), std::runtime_error);
}

/// A file that is written from its beginning to its end, by one thread.
class Sequential final : public data::Output {
 public:
  void write_at(std::uint64_t offset, const char* bytes, std::size_t count) const override {
    EXPECT_EQ(offset, written_.size());
    EXPECT_EQ(std::this_thread::get_id(), thread_);
    written_.append(bytes, count);
    ++calls_;
  }
  bool is_sequential() const override { return true; }

  const std::string& written() const { return written_; }
  std::size_t calls() const { return calls_; }

 private:
  std::thread::id thread_ = std::this_thread::get_id();
  mutable std::string written_;
  mutable std::size_t calls_ = 0;
};

TEST(Write, ASequentialFileGetsLargeBlocksInOrder) {
  std::mt19937 random(6);
  Case made;
  for (int count = 0; count < 1000; ++count) made.add(random() % 5'000, random, count % 3 == 0);
  for (int count = 0; count < 4; ++count) made.add(5'000'000, random, count % 2 == 0);
  made.point_to_data();
  const Sequential file;
  EXPECT_EQ(data::write(file, made.requests, options_of(made, 4)).error, nullptr);
  EXPECT_TRUE(file.written() == made.expected);
  EXPECT_LT(file.calls(), 350U);  // 24 MB, of which the pieces of the source have a tenth each
}

TEST(Write, NoRequests) {
  const TemporaryFile file;
  const Case none;
  const data::WriteResult result =
      data::write(data::OutputFile(file.descriptor()), none.requests, options_of(none, 4));
  EXPECT_EQ(result.error, nullptr);
  EXPECT_TRUE(file.bytes().empty());
}

}  // namespace
}  // namespace shardplan::testing
