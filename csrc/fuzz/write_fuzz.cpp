// Writes parts to a file, with any number of threads, from plain memory or in pieces. The file has
// the bytes of each part, and each is read back. A disk that is full ends the save with an error.

#include <algorithm>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <system_error>

#include "core/data/tensor_part.h"
#include "core/data/write_execution.h"
#include "data/parts_to_write.h"
#include "fuzz_input.h"

namespace shardplan::fuzz {
namespace {

class Disk final : public data::Output {
 public:
  Disk(std::size_t size, std::size_t room, bool sequential)
      : bytes_(size, '\0'), room_(room), sequential_(sequential) {}

  void write_at(std::uint64_t offset, const char* bytes, std::size_t count) const override {
    expect(offset <= bytes_.size() && count <= bytes_.size() - offset, "a write leaves the file");
    const std::lock_guard lock(mutex_);
    if (sequential_) expect(offset == end_, "a write does not begin where the last one ended");
    end_ = offset + count;
    if (count > room_) throw std::system_error(ENOSPC, std::generic_category());
    room_ -= count;
    std::copy_n(bytes, count, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  bool is_sequential() const override { return sequential_; }

  const std::string& bytes() const { return bytes_; }

 private:
  mutable std::mutex mutex_;
  mutable std::string bytes_;
  mutable std::size_t room_;
  mutable std::uint64_t end_ = 0;
  bool sequential_;
};

void run(Input input) {
  const bool sequential = input.byte() % 2 == 0;
  const auto threads = static_cast<std::size_t>(input.between(1, 3));
  std::mt19937 random(input.byte());
  testing::Case made;
  std::size_t needed = 0;
  for (std::int64_t count = input.between(0, 5); count > 0; --count) {
    const std::size_t size = std::size_t{input.byte()} << input.between(0, 9);
    const std::size_t gap = sequential ? 0 : input.byte() % 4;
    made.add(size, random, input.byte() % 2 == 0, gap);
    needed += made.requests.back().ends->size();
  }
  made.point_to_data();
  const bool is_full = input.byte() % 4 == 0;
  const std::size_t room = is_full ? needed * input.byte() / 256 : needed;
  const Disk disk(made.expected.size(), room, sequential);
  const data::WriteResult result =
      data::write(disk, made.requests, testing::options_of(made, threads));

  expect((result.error != nullptr) == (room < needed), "a full disk is no error, or another is");
  if (result.error != nullptr) {
    expect(result.failed < made.requests.size(), "the failed request is not known");
    return;
  }
  expect(disk.bytes() == made.expected, "a file differs from its parts");
  for (std::size_t at = 0; at < made.requests.size(); ++at) {
    const data::WriteRequest& request = made.requests[at];
    const std::string bytes = disk.bytes().substr(request.begin, request.ends->size());
    const data::PartBytes source = testing::part_of(bytes);
    const data::ZipPart part(source, bytes.size());
    for (const data::ZipMember& member : part.members()) data::checksum_of(source, member);
    const data::StoredTensor tensor = data::read_tensor_part(source, part);
    expect(bytes.compare(tensor.begin, tensor.reach, made.data[at]) == 0,
           "a tensor differs from what was written");
  }
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
