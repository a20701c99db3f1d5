#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data/crc32.h"
#include "core/data/write_execution.h"
#include "data/zip_parts.h"

namespace shardplan::testing {

inline data::PartFormat sample_format() {
  std::ifstream file(SHARDPLAN_SAMPLE_PART, std::ios::binary);
  const std::string part{std::istreambuf_iterator<char>(file), {}};
  return data::PartFormat::of_sample(part_of(part), part.size()).value();
}

/// Tensors of uint8, and the file that has their parts.
struct Case {
  std::vector<std::string> data;
  std::deque<data::PartEnds> ends;
  std::vector<data::WriteRequest> requests;
  std::string expected;

  void add(std::size_t size, std::mt19937& random, bool is_staged, std::size_t gap = 0) {
    static const data::PartFormat parts = sample_format();
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    data::StoredTensor tensor;
    tensor.dtype = "uint8";
    tensor.element_size = 1;
    tensor.shape = {static_cast<std::int64_t>(size)};
    tensor.strides = {1};
    tensor.storage_size = size;
    ends.push_back(parts.make_ends(tensor).value());
    expected.append(gap, '\0');
    data::WriteRequest request;
    request.ends = &ends.back();
    request.begin = expected.size();
    expected += ends.back().head() + bytes;
    ends.back().append_tail(data::crc32(bytes.data(), bytes.size()), expected);
    data.push_back(std::move(bytes));
    request.data = is_staged ? nullptr : data.back().data();
    requests.push_back(request);
  }

  void point_to_data() {
    for (std::size_t at = 0; at < requests.size(); ++at) {
      if (requests[at].data != nullptr) requests[at].data = data[at].data();
    }
  }
};

/// Gives the data of a request in pieces, each in memory of its own.
class Pieces final : public data::StagingSource {
 public:
  explicit Pieces(const Case& made) : made_(made) {}

  void start(std::size_t request) override {
    request_ = request;
    done_ = 0;
  }
  std::string_view next() override {
    const std::string& all = made_.data[request_];
    const std::size_t count = std::min<std::size_t>(all.size() - done_, 1 + done_ * 7 % 90'000);
    piece_ = std::make_unique<std::string>(all.substr(done_, count));
    done_ += count;
    return *piece_;
  }

 private:
  const Case& made_;
  std::size_t request_ = 0;
  std::size_t done_ = 0;
  std::unique_ptr<std::string> piece_;
};

inline data::WriteOptions options_of(const Case& made, std::size_t threads) {
  data::WriteOptions options;
  options.threads = threads;
  options.make_source = [&made] { return std::make_unique<Pieces>(made); };
  return options;
}

}  // namespace shardplan::testing
