#include "core/data/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shardplan::data {
namespace {

constexpr std::uint32_t kPolynomial = 0xEDB88320;
constexpr std::size_t kAtOnce = 16;
using Table = std::array<std::uint32_t, 256>;

/// Slicing-by-16 tables: [n][b] is the contribution of byte b if n more bytes follow it.
constexpr std::array<Table, kAtOnce> tables() {
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
constexpr std::size_t kWideFolded = 256;

/// Returns x to a power modulo the polynomial, as a factor of bit-reflected numbers.
constexpr long long power_of_x(std::size_t power) {
  std::uint32_t value = 0x80000000;
  for (; power > 0; --power) value = value >> 1 ^ ((value & 1) != 0 ? kPolynomial : 0);
  return static_cast<long long>(value) << 1;
}

/// Factors that move 16 bytes past as many bytes as follow.
struct Shift {
  long long low;
  long long high;
};

constexpr Shift shift_by(std::size_t bytes) {
  return {power_of_x(8 * bytes + 32), power_of_x(8 * bytes - 32)};
}

constexpr Shift kBy16 = shift_by(16);
constexpr Shift kBy64 = shift_by(64);
constexpr Shift kBy256 = shift_by(256);

__attribute__((target("pclmul,sse4.1"))) __m128i load(const unsigned char* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/// Returns 16 bytes with the same remainder as `x` followed by as many bytes as the factors are
/// for, plus the bytes `next` at the end.
__attribute__((target("pclmul,sse4.1"))) __m128i fold(__m128i x, __m128i factors, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(x, factors, 0x00);
  const __m128i high = _mm_clmulepi64_si128(x, factors, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/// Folds the 64 bytes at `first`, and then those from `at` on.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t fold_all(const unsigned char* first,
                                                                std::uint32_t state,
                                                                const unsigned char* at,
                                                                std::size_t count) {
  const __m128i by_64 = _mm_set_epi64x(kBy64.high, kBy64.low);
  const __m128i by_16 = _mm_set_epi64x(kBy16.high, kBy16.low);
  __m128i x0 = _mm_xor_si128(load(first), _mm_cvtsi32_si128(static_cast<int>(state)));
  __m128i x1 = load(first + 16);
  __m128i x2 = load(first + 32);
  __m128i x3 = load(first + 48);
  for (; count >= kFolded; at += kFolded, count -= kFolded) {
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

/// Carry-less multiplication, as in "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
/// Instruction" (Gopal and others, Intel, 2009): powers of x modulo the polynomial move 64 or 16
/// bytes past those that follow, until 16 bytes are left. `count` must be at least kFolded.
std::uint32_t by_folding(std::uint32_t state, const unsigned char* at, std::size_t count) {
  return fold_all(at, state, at + kFolded, count - kFolded);
}

__attribute__((target("avx512f,vpclmulqdq"))) __m512i load_wide(const unsigned char* at) {
  return _mm512_loadu_si512(at);
}

__attribute__((target("avx512f,vpclmulqdq"))) __m512i fold_wide(__m512i x, __m512i factors,
                                                                __m512i next) {
  constexpr int kXor = 0x96;  // of three numbers
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, factors, 0x00),
                                   _mm512_clmulepi64_epi128(x, factors, 0x11), next, kXor);
}

__attribute__((target("avx512f,vpclmulqdq"))) __m512i wide(Shift shift) {
  return _mm512_set_epi64(shift.high, shift.low, shift.high, shift.low, shift.high, shift.low,
                          shift.high, shift.low);
}

/// The same with registers of 64 bytes: 256 bytes are moved at once, until 64 are left. `count`
/// must be at least kWideFolded.
__attribute__((target("avx512f,vpclmulqdq"))) std::uint32_t by_wide_folding(std::uint32_t state,
                                                                            const unsigned char* at,
                                                                            std::size_t count) {
  const __m512i by_256 = wide(kBy256);
  const __m512i by_64 = wide(kBy64);
  __m512i x0 = _mm512_xor_si512(load_wide(at),
                                _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  __m512i x1 = load_wide(at + 64);
  __m512i x2 = load_wide(at + 128);
  __m512i x3 = load_wide(at + 192);
  at += kWideFolded;
  count -= kWideFolded;
  for (; count >= kWideFolded; at += kWideFolded, count -= kWideFolded) {
    x0 = fold_wide(x0, by_256, load_wide(at));
    x1 = fold_wide(x1, by_256, load_wide(at + 64));
    x2 = fold_wide(x2, by_256, load_wide(at + 128));
    x3 = fold_wide(x3, by_256, load_wide(at + 192));
  }
  x0 = fold_wide(fold_wide(fold_wide(x0, by_64, x1), by_64, x2), by_64, x3);
  std::array<unsigned char, kFolded> left{};
  _mm512_storeu_si512(left.data(), x0);
  return fold_all(left.data(), 0, at, count);
}

bool has_carry_less_multiplication() {
  static const bool has = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  return has;
}

bool has_wide_multiplication() {
  static const bool has = has_carry_less_multiplication() && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("vpclmulqdq");
  return has;
}

#endif

}  // namespace

std::uint32_t crc32(const char* bytes, std::size_t count, std::uint32_t before) {
  const auto* at = reinterpret_cast<const unsigned char*>(bytes);
#if defined(__x86_64__)
  if (count >= kWideFolded && has_wide_multiplication()) {
    return ~by_wide_folding(~before, at, count);
  }
  if (count >= kFolded && has_carry_less_multiplication()) return ~by_folding(~before, at, count);
#endif
  return ~by_tables(~before, at, count);
}

}  // namespace shardplan::data
