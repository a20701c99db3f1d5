#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

namespace shardplan::data {

/// Thrown if bytes of a file cannot be read, or are wrong. The message is a predicate without a
/// subject.
class FailedRead : public std::runtime_error {
 public:
  FailedRead(const std::string& what, int system_error = 0)
      : std::runtime_error(what), errno_(system_error) {}

  /// Returns the errno of the system, or 0.
  int system_error() const { return errno_; }

 private:
  int errno_;
};

/// Bytes in the memory of a source, valid as long as `owner` lives.
struct LentBytes {
  std::shared_ptr<const void> owner;
  const char* data = nullptr;
  std::size_t size = 0;
};

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

  /// Reads as `read_at` does, but into memory of the source, so that bytes which arrive in memory
  /// need not be copied. Returns nothing if `read_at` reads as well.
  virtual std::optional<LentBytes> lend(std::uint64_t offset, std::size_t count) const;
};

/// A file of a local file system.
class File final : public Source {
 public:
  /// Opens a file. Throws std::system_error with the errno of the system.
  explicit File(const std::string& path);
  ~File() override;

  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override;

  /// Returns the size in bytes. Throws std::system_error.
  std::uint64_t size() const;

 private:
  int descriptor_;
};

/// Receives the bytes of a file.
class Output {
 public:
  Output() = default;
  virtual ~Output() = default;
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// Writes all bytes at an offset. Threads can write at the same time, unless the output is
  /// sequential.
  virtual void write_at(std::uint64_t offset, const char* bytes, std::size_t count) const = 0;

  /// Returns whether each write has to begin where the one before ended.
  virtual bool is_sequential() const = 0;
};

/// A local file that is open for writing. Does not own its descriptor.
class OutputFile final : public Output {
 public:
  explicit OutputFile(int descriptor) : descriptor_(descriptor) {}

  /// Throws std::system_error.
  void write_at(std::uint64_t offset, const char* bytes, std::size_t count) const override;

  bool is_sequential() const override { return false; }

 private:
  int descriptor_;
};

}  // namespace shardplan::data
