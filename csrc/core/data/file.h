#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

namespace shardplan::data {

/// Bytes that can be read at any offset. Threads can share it.
class Source {
 public:
  Source() = default;
  virtual ~Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  /// Reads `count` bytes from `offset` on. Returns their number, which is smaller only at the end.
  /// Throws std::system_error.
  virtual std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const = 0;
};

/// A file of a local file system.
class File final : public Source {
 public:
  /// Opens a file. Throws std::system_error with the errno of the system.
  explicit File(const std::string& path);
  ~File() override;

  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override;

 private:
  int descriptor_;
};

}  // namespace shardplan::data
