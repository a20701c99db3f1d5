#include "core/data/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shardplan::data {
namespace {

constexpr std::size_t kAtOnce = 16;
using Table = std::array<std::uint32_t, 256>;

/// Slicing-by-16 tables: [n][b] is the contribution of byte b if n more bytes follow it.
constexpr std::array<Table, kAtOnce> tables() {
  constexpr std::uint32_t kPolynomial = 0xEDB88320;
  std::array<Table, kAtOnce> made{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? kPolynomial : 0);
    made[0][byte] = value;
  }
  for (std::size_t more = 1; more < kAtOnce; ++more) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t shorter = made[more - 1][byte];
      made[more][byte] = shorter >> 8 ^ made[0][shorter & 0xFF];
    }
  }
  return made;
}

constexpr std::array<Table, kAtOnce> kTables = tables();

std::uint32_t word(const unsigned char* at) {
  return static_cast<std::uint32_t>(at[0]) | static_cast<std::uint32_t>(at[1]) << 8 |
         static_cast<std::uint32_t>(at[2]) << 16 | static_cast<std::uint32_t>(at[3]) << 24;
}

/// Returns the contribution of four bytes that are followed by `after` bytes of the block of 16.
std::uint32_t of_word(std::uint32_t word, std::size_t after) {
  return kTables[after + 3][word & 0xFF] ^ kTables[after + 2][word >> 8 & 0xFF] ^
         kTables[after + 1][word >> 16 & 0xFF] ^ kTables[after][word >> 24];
}

/// Returns the state after more bytes. The state is the complement of the CRC.
std::uint32_t by_tables(std::uint32_t state, const unsigned char* at, std::size_t count) {
  for (; count >= kAtOnce; count -= kAtOnce, at += kAtOnce) {
    state = of_word(state ^ word(at), 12) ^ of_word(word(at + 4), 8) ^ of_word(word(at + 8), 4) ^
            of_word(word(at + 12), 0);
  }
  for (; count > 0; --count, ++at) state = state >> 8 ^ kTables[0][(state ^ *at) & 0xFF];
  return state;
}

#if defined(__x86_64__)

constexpr std::size_t kFolded = 64;

__attribute__((target("pclmul,sse4.1"))) __m128i load(const unsigned char* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/// Returns 16 bytes with the same remainder as `x` followed by as many bytes as the constants are
/// for, plus the bytes `next` at the end.
__attribute__((target("pclmul,sse4.1"))) __m128i fold(__m128i x, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(x, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(x, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/// Carry-less multiplication, as in "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
/// Instruction" (Gopal and others, Intel, 2009): powers of x modulo the polynomial move 64 or 16
/// bytes past those that follow, until 16 bytes are left. `count` must be at least kFolded.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t by_folding(std::uint32_t state,
                                                                  const unsigned char* at,
                                                                  std::size_t count) {
  const __m128i by_64 = _mm_set_epi64x(0x1C6E41596, 0x154442BD4);
  const __m128i by_16 = _mm_set_epi64x(0x0CCAA009E, 0x1751997D0);
  __m128i x0 = _mm_xor_si128(load(at), _mm_cvtsi32_si128(static_cast<int>(state)));
  __m128i x1 = load(at + 16);
  __m128i x2 = load(at + 32);
  __m128i x3 = load(at + 48);
  for (at += kFolded, count -= kFolded; count >= kFolded; at += kFolded, count -= kFolded) {
    x0 = fold(x0, by_64, load(at));
    x1 = fold(x1, by_64, load(at + 16));
    x2 = fold(x2, by_64, load(at + 32));
    x3 = fold(x3, by_64, load(at + 48));
  }
  x0 = fold(fold(fold(x0, by_16, x1), by_16, x2), by_16, x3);
  for (; count >= 16; at += 16, count -= 16) x0 = fold(x0, by_16, load(at));
  std::array<unsigned char, 16> left{};
  std::memcpy(left.data(), &x0, left.size());
  return by_tables(by_tables(0, left.data(), left.size()), at, count);
}

bool has_carry_less_multiplication() {
  static const bool has = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  return has;
}

#endif

}  // namespace

std::uint32_t crc32(const char* bytes, std::size_t count, std::uint32_t before) {
  const auto* at = reinterpret_cast<const unsigned char*>(bytes);
#if defined(__x86_64__)
  if (count >= kFolded && has_carry_less_multiplication()) return ~by_folding(~before, at, count);
#endif
  return ~by_tables(~before, at, count);
}

}  // namespace shardplan::data
