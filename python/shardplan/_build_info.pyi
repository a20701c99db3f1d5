# Written by the build from csrc/bindings/build_info.py.in.
SHARDPLAN: str
TORCH: str
PYTHON: str
PYBIND11: str
COMPILER: str
PLATFORM: str
BUILD_TYPE: str
