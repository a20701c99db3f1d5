#include "core/pickle/input.h"

#include <algorithm>

namespace shardplan::pickle {

bool Input::read_more() {
  if (at_ > 0) {
    std::memmove(window_.data(), window_.data() + at_, end_ - at_);
    before_ += at_;
    end_ -= at_;
    at_ = 0;
  }
  if (end_ == window_.size() || (filled_ && window_.size() < kBlock)) {
    window_.resize(window_.size() * 2);
  }
  const std::size_t got =
      std::min(source_(window_.data() + end_, window_.size() - end_), window_.size() - end_);
  end_ += got;
  filled_ = end_ == window_.size();
  return got != 0;
}

void Input::need(std::uint64_t length) {
  while (end_ - at_ < length) {
    if (!read_more()) {
      throw BadPickle("is truncated, at byte " + std::to_string(before_ + end_));
    }
  }
}

void Input::read_to(std::uint64_t position) {
  while (before_ + end_ < position) {
    at_ = end_;
    need(1);
  }
}

std::string_view Input::line() {
  for (std::size_t seen = 0;;) {
    const std::string_view left{window_.data() + at_, end_ - at_};
    const std::size_t length = left.find('\n', seen);
    if (length != std::string_view::npos) return bytes(length + 1).substr(0, length);
    seen = left.size();
    need(seen + 1);
  }
}

void Input::fail(const std::string& what) const {
  throw BadPickle(what + ", " + where());
}

}  // namespace shardplan::pickle
