#include "core/data/tensor_part.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "data/zip_parts.h"

namespace shardplan::testing {
namespace {

using namespace std::string_literals;

data::StoredTensor read(const std::string& bytes, std::size_t at_once = 1 << 20) {
  const data::PartBytes source = part_of(bytes, at_once);
  return data::read_tensor_part(source, data::ZipPart(source, bytes.size()));
}

std::string damage_of(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const data::UnreadPart& problem) {
    return "left: "s + problem.what();
  } catch (const data::BadPart& problem) {
    return problem.what();
  }
  return "nothing wrong";
}

std::string left_of(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const data::UnreadPart& problem) {
    return problem.what();
  } catch (const data::BadPart& problem) {
    return "damaged: "s + problem.what();
  }
  return "nothing wrong";
}

void expect_in(const std::string& expected, const std::string& message) {
  EXPECT_NE(message.find(expected), std::string::npos) << message;
}

std::string damage_of(const PickledTensor& tensor) {
  return damage_of(tensor_part(tensor.pickle()));
}

std::string long_int(std::uint64_t number) {
  return "\x8a\x08" + little_endian(number, 8);
}

TEST(TensorPart, DescribesTheTensorAndItsLocation) {
  PickledTensor tensor;
  tensor.offset = pickled_int(2);
  tensor.shape = pickled_int(2) + pickled_int(3);
  tensor.strides = pickled_int(1) + pickled_int(4);
  std::string data;
  for (int at = 0; at < 48; ++at) data += static_cast<char>(at);
  const std::string bytes = tensor_part(tensor.pickle(), data);
  for (const std::size_t at_once : {1, 5, 1 << 20}) {
    const data::StoredTensor found = read(bytes, at_once);
    EXPECT_EQ(found.dtype, "float32");
    EXPECT_EQ(found.element_size, 4U);
    EXPECT_EQ(found.shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(found.strides, (std::vector<std::int64_t>{1, 4}));
    EXPECT_EQ(found.storage_offset, 2);
    EXPECT_EQ(found.storage_key, "0");
    EXPECT_EQ(found.device, "cpu");
    EXPECT_FALSE(found.is_parameter);
    EXPECT_FALSE(found.requires_grad);
    EXPECT_FALSE(found.big_endian);
    EXPECT_EQ(bytes.substr(found.storage_begin, found.storage_size), data);
    EXPECT_EQ(bytes.substr(found.begin, found.reach), data.substr(8, (1 + 1 + 8) * 4));
  }
}

TEST(TensorPart, EmptyTensorHasNoBytes) {
  PickledTensor tensor;
  tensor.elements = pickled_int(0);
  tensor.offset = long_int(INT64_MAX);
  tensor.shape = pickled_int(0) + long_int(INT64_MAX);
  tensor.strides = long_int(INT64_MAX) + pickled_int(1);
  const data::StoredTensor found = read(tensor_part(tensor.pickle(), ""));
  EXPECT_EQ(found.begin, found.storage_begin);
  EXPECT_EQ(found.reach, 0U);
}

TEST(TensorPart, ByteOrder) {
  auto members = members_of(PickledTensor{}.pickle(), std::string(48, 'x'));
  members[2].data = "big";
  EXPECT_TRUE(read(zipped(members)).big_endian);
  members[2].data = "middle";
  expect_in("byte order middle, which is neither little nor big", damage_of(zipped(members)));
  members.erase(members.begin() + 2);
  EXPECT_FALSE(read(zipped(members)).big_endian);
}

TEST(TensorPart, IsWithinItsStorage) {
  PickledTensor tensor;
  EXPECT_EQ(damage_of(tensor), "nothing wrong");
  for (const std::uint64_t stride : {std::uint64_t{5}, std::uint64_t{INT64_MAX}}) {
    PickledTensor far = tensor;
    far.strides = long_int(stride) + pickled_int(1);
    expect_in("reaches beyond the 48 bytes of its storage", damage_of(far));
  }
  PickledTensor later = tensor;
  later.offset = pickled_int(1);
  expect_in("reaches beyond", damage_of(later));
  later.offset = long_int(INT64_MAX);
  expect_in("reaches beyond", damage_of(later));
  PickledTensor huge = tensor;
  huge.shape = long_int(INT64_MAX) + long_int(INT64_MAX);
  expect_in("reaches beyond", damage_of(huge));
  PickledTensor few = tensor;
  few.elements = pickled_int(11);
  expect_in("reaches beyond the 44 bytes", damage_of(few));
  PickledTensor more = tensor;
  more.elements = pickled_int(13);
  expect_in("has a storage of 52 bytes, but holds only 48 of them", damage_of(more));
  more.elements = long_int(INT64_MAX);
  expect_in("does not fit 64 bits", damage_of(more));
}

TEST(TensorPart, NumbersAre64Bit) {
  for (std::string PickledTensor::* field : {&PickledTensor::offset, &PickledTensor::shape,
                                             &PickledTensor::strides, &PickledTensor::elements}) {
    const auto with = [&](const std::string& value) {
      PickledTensor tensor;
      tensor.*field = value;
      return damage_of(tensor);
    };
    expect_in("with negative value -1", with(pickled_int(-1)));
    expect_in("with a value that is not a 64-bit int", with(pickled_text("7")));
    expect_in("with a value that is not a 64-bit int", with("\x88"));
    expect_in("with a value that is not a 64-bit int", with("\x8a\x09" + std::string(9, '\x01')));
    expect_in("with a value that is not a 64-bit int", with("G\x40" + std::string(7, '\0')));
    expect_in("with a value that is not a 64-bit int", with("]"));
  }
  PickledTensor one;
  one.strides = pickled_int(1);
  expect_in("has 2 dims but 1 strides", damage_of(one));
  PickledTensor keyed;
  keyed.key = pickled_int(0);
  expect_in("storage key that is not a string", damage_of(keyed));
  keyed.key = pickled_text("1");
  expect_in("no storage with key 1", damage_of(keyed));
}

TEST(TensorPart, OtherObjectsAreUnsupported) {
  const PickledTensor tensor;
  const auto of = [](const std::string& value) {
    return left_of(tensor_part("\x80\x02" + value + "."));
  };
  expect_in("is not a plain tensor: it is a dict",
            of("}" + pickled_text("a") + tensor.rebuilt() + "s"));
  expect_in("it is a list", of("]" + tensor.rebuilt() + "a"));
  expect_in("it is a tuple", of(tensor.rebuilt() + tensor.rebuilt() + "\x86"));
  expect_in("it is a number", of(pickled_int(7)));
  expect_in("it is None", of("N"));
  expect_in("it is a storage", of("(" + pickled_text("storage") + tensor.storage + tensor.key +
                                  pickled_text("cpu") + tensor.elements + "tQ"));
  expect_in("names the global torch._utils._rebuild_qtensor, which a plain tensor does not use",
            of("ctorch._utils\n_rebuild_qtensor\n)R"));
  expect_in("names the global torch.QInt8Storage", of("ctorch\nQInt8Storage\n"));
  expect_in("sets attributes of an object", of("ccollections\nOrderedDict\n)R}b"));
  expect_in("which a plain tensor does not use", of("I01\n"));
  PickledTensor conjugated;
  conjugated.after = "}" + pickled_text("conj") + "\x88s";
  expect_in("it is lazily conjugated or negated", left_of(tensor_part(conjugated.pickle())));
  const std::string large = pickled_text(std::string(data::kMaxTensorPickle, 'x')) + "0";
  expect_in("bytes (the limit is 1,048,576)", of(large + tensor.rebuilt()));
  auto members = members_of(tensor.pickle(), std::string(48, 'x'));
  members.push_back({"archive/constants.pkl", ""});
  expect_in("TorchScript", left_of(zipped(members)));
  members[0].name = members[0].central_name = "archive/other.pkl";
  members.pop_back();
  expect_in("it has no data.pkl", left_of(zipped(members)));
  members.erase(members.begin() + 4);
  expect_in("it has no version", left_of(zipped(members)));
}

TEST(TensorPart, BrokenPickleReportsTheByte) {
  const std::string pickle = PickledTensor{}.pickle();
  expect_in("is truncated, at byte " + std::to_string(pickle.size() - 1) +
                " of archive/data.pkl, which begins at byte 52 of the part",
            damage_of(tensor_part(pickle.substr(0, pickle.size() - 1))));
  expect_in("has unknown opcode 255", damage_of(tensor_part("\x80\x02\xff.")));
}

TEST(TensorPart, VersionIsOneThatTorchReads) {
  auto members = members_of(PickledTensor{}.pickle(), std::string(48, 'x'));
  for (const auto& [version, expected] :
       std::vector<std::pair<std::string, std::string>>{{"3\n", "nothing wrong"},
                                                        {"10", "nothing wrong"},
                                                        {"11", "version 11"},
                                                        {"99999999999999999999999", "version 9999"},
                                                        {"0", "which is not a number"},
                                                        {"", "which is not a number"},
                                                        {"x", "which is not a number"}}) {
    members[4].data = version;
    expect_in(expected, damage_of(zipped(members)));
  }
}

// No other exception may be thrown; sanitizers detect invalid accesses.
TEST(TensorPart, ChangedBytesAreReadOrRejected) {
  const std::string bytes = tensor_part();
  std::size_t refused = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int flip : {0x01, 0x10, 0x80, 0xFF}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      const std::string message = damage_of(changed);
      refused += message != "nothing wrong" ? 1 : 0;
    }
  }
  EXPECT_GT(refused, bytes.size());
}

TEST(TensorPart, TruncatedPickleIsRejected) {
  const std::string pickle = PickledTensor{}.pickle();
  for (std::size_t length = 0; length < pickle.size(); ++length) {
    EXPECT_NE(damage_of(tensor_part(pickle.substr(0, length))), "nothing wrong") << length;
  }
}

}  // namespace
}  // namespace shardplan::testing
