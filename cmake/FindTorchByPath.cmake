# Finds an installed torch by path and defines the target `torch_by_path`.
#
# find_package(Torch) fails beside a CUDA wheel where no CUDA toolkit is installed, which is most
# users' machine; three libraries and one include folder are all that is needed.
#
# In:  Python (the interpreter), SHARDPLAN_TORCH_DIR (CMake or environment variable, optional)
# Out: target torch_by_path, TORCH_VERSION, TORCH_DIR, TORCH_PYBIND11_VERSION

set(TORCH_DIR "$CACHE{SHARDPLAN_TORCH_DIR}")
if(NOT TORCH_DIR)
  set(TORCH_DIR "$ENV{SHARDPLAN_TORCH_DIR}")
endif()
if(NOT TORCH_DIR)
  # The platlib of the interpreter holds torch also inside pip's isolated builds, where it cannot be imported.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import sysconfig; print(sysconfig.get_path('platlib'))"
    OUTPUT_VARIABLE platlib OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(TORCH_DIR "${platlib}/torch")
endif()

set(torch_hint "Install torch first, for example:  pip install torch==2.13.0\n"
  "then:  pip install .   (with a front end that hides the environment, such as uv or `python -m build`, "
  "add --no-build-isolation, or set SHARDPLAN_TORCH_DIR to the folder of the installed torch)")
if(NOT EXISTS "${TORCH_DIR}/version.py")
  message(FATAL_ERROR "shardplan is built against an installed torch, and none was found at ${TORCH_DIR}.\n" ${torch_hint})
endif()

file(STRINGS "${TORCH_DIR}/version.py" version_line REGEX "^__version__")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+[^'\"]*" TORCH_VERSION "${version_line}")
if(TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "shardplan needs torch 2.11 or later; found torch ${TORCH_VERSION} at ${TORCH_DIR}.\n" ${torch_hint})
endif()

file(STRINGS "${TORCH_DIR}/include/pybind11/detail/common.h" pybind11_lines REGEX "#ifdef|define PYBIND11_VERSION_(MAJOR|MINOR|MICRO|PATCH)")
string(REGEX MATCH "VERSION_MAJOR +([0-9]+)" _ "${pybind11_lines}")
set(TORCH_PYBIND11_VERSION "${CMAKE_MATCH_1}")
string(REGEX MATCH "VERSION_MINOR +([0-9]+)" _ "${pybind11_lines}")
string(APPEND TORCH_PYBIND11_VERSION ".${CMAKE_MATCH_1}")
string(REGEX MATCH "VERSION_(MICRO|PATCH) +([0-9]+)" _ "${pybind11_lines}")
string(APPEND TORCH_PYBIND11_VERSION ".${CMAKE_MATCH_2}")

set(torch_cxx11_abi 1)
if(EXISTS "${TORCH_DIR}/share/cmake/Torch/TorchConfig.cmake")
  file(STRINGS "${TORCH_DIR}/share/cmake/Torch/TorchConfig.cmake" abi_line REGEX "_GLIBCXX_USE_CXX11_ABI=")
  if(abi_line MATCHES "_GLIBCXX_USE_CXX11_ABI=([01])")
    set(torch_cxx11_abi "${CMAKE_MATCH_1}")
  endif()
endif()

add_library(torch_by_path INTERFACE)
target_include_directories(torch_by_path SYSTEM INTERFACE
  "${TORCH_DIR}/include" "${TORCH_DIR}/include/torch/csrc/api/include")
target_compile_definitions(torch_by_path INTERFACE _GLIBCXX_USE_CXX11_ABI=${torch_cxx11_abi})
foreach(name torch_python torch_cpu c10)
  set(file "${TORCH_DIR}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}")
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "torch ${TORCH_VERSION} at ${TORCH_DIR} lacks ${file}.\n" ${torch_hint})
  endif()
  target_link_libraries(torch_by_path INTERFACE "${file}")
endforeach()
message(STATUS "shardplan: torch ${TORCH_VERSION} at ${TORCH_DIR}, its pybind11 ${TORCH_PYBIND11_VERSION}")
