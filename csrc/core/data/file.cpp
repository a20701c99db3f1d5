#include "core/data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace shardplan::data {
namespace {

/// Linux transfers at most 2^31 - 4,096 bytes per call.
constexpr std::size_t kMaxCall = std::size_t{1} << 30;
constexpr auto kMaxOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());

}  // namespace

std::optional<LentBytes> Source::lend(std::uint64_t, std::size_t) const {
  return std::nullopt;
}

File::File(const std::string& path) : descriptor_(-1) {
  do {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) throw std::system_error(errno, std::generic_category());
}

File::~File() {
  ::close(descriptor_);
}

std::size_t File::read_at(std::uint64_t offset, char* into, std::size_t count) const {
  std::size_t done = 0;
  while (done < count) {
    if (offset + done > kMaxOffset || offset + done < offset) break;
    const ssize_t got = ::pread(descriptor_, into + done, std::min(count - done, kMaxCall),
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::system_error(errno, std::generic_category());
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void OutputFile::write_at(std::uint64_t offset, const char* bytes, std::size_t count) const {
  std::size_t done = 0;
  while (done < count) {
    const std::uint64_t at = offset + done;
    if (at > kMaxOffset || at < offset) throw std::system_error(EFBIG, std::generic_category());
    const ssize_t written = ::pwrite(descriptor_, bytes + done, std::min(count - done, kMaxCall),
                                     static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw std::system_error(errno, std::generic_category());
    if (written == 0) throw std::system_error(EIO, std::generic_category());
    done += static_cast<std::size_t>(written);
  }
}

std::uint64_t File::size() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) throw std::system_error(errno, std::generic_category());
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace shardplan::data
