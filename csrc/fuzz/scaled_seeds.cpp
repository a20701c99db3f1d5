// Writes large seeds for metadata_fuzz: pickles with many references to the same values.
// Usage: scaled_seeds FOLDER

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
    for (const std::size_t parts : {std::size_t{20}, std::size_t{400}, std::size_t{2'000}}) {
      const auto path =
          std::filesystem::path(argv[1]) / (shape.name + ("-" + std::to_string(parts)));
      std::ofstream out(path, std::ios::binary);
      out << '\xff' << shape.of(parts);  // the first byte is the read size of the source
      if (!out.flush()) {
        std::cerr << path << " cannot be written\n";
        return 1;
      }
    }
  }
  return 0;
}
