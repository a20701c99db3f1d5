// Writes inputs of metadata_fuzz that are too large to grow from small ones: what refers to its
// parts over and over. usage: scaled_seeds FOLDER

#include <filesystem>
#include <fstream>
#include <iostream>

#include "pickle/shapes.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: scaled_seeds FOLDER\n";
    return 2;
  }
  for (const shardplan::testing::PickleShape& shape : shardplan::testing::pickle_shapes()) {
    for (const std::size_t parts : {20, 400, 2'000}) {
      const auto path =
          std::filesystem::path(argv[1]) / (shape.name + ("-" + std::to_string(parts)));
      std::ofstream out(path, std::ios::binary);
      out << '\xff' << shape.of(parts);  // the first byte says how much the source gives at once
      if (!out.flush()) {
        std::cerr << path << " cannot be written\n";
        return 1;
      }
    }
  }
  return 0;
}
