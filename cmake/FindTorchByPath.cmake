# Finds an installed torch by path and defines the target `torch_by_path`.
#
# find_package(Torch) fails beside a CUDA wheel where no CUDA toolkit is installed, which is most
# users' machine; three libraries and one include folder are all that is needed.
#
# In:  Python (the interpreter), SHARDPLAN_TORCH_DIR (CMake or environment variable, optional)
# Out: target torch_by_path, TORCH_VERSION, TORCH_DIR, TORCH_PYBIND11_VERSION, TORCH_CXX11_ABI

set(TORCH_DIR "$CACHE{SHARDPLAN_TORCH_DIR}")
if(NOT TORCH_DIR)
  set(TORCH_DIR "$ENV{SHARDPLAN_TORCH_DIR}")
endif()
if(TORCH_DIR)
  get_filename_component(TORCH_DIR "${TORCH_DIR}" ABSOLUTE BASE_DIR "${PROJECT_SOURCE_DIR}")
  set(torch_place "${TORCH_DIR} (SHARDPLAN_TORCH_DIR)")
else()
  # Where the interpreter would import torch from; sys.path[0] is the current folder, and not meant.
  # pip's isolated builds hide torch through PYTHONPATH, which -E ignores.
  set(torch_finder [[
import importlib.util, sys
sys.path.pop(0)
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec else "")
]])
  foreach(flags "" "-E")
    if(NOT TORCH_DIR)
      execute_process(
        COMMAND "${Python_EXECUTABLE}" ${flags} -c "${torch_finder}"
        OUTPUT_VARIABLE TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    endif()
  endforeach()
  set(torch_place "${Python_EXECUTABLE}")
endif()

set(torch_hint "Install torch first, for example:  pip install torch==2.13.0\n"
  "then:  pip install .\n"
  "A front end that hides the environment, such as uv or `python -m build`, needs "
  "--no-build-isolation, or SHARDPLAN_TORCH_DIR set to the folder of the installed torch.")
if(NOT EXISTS "${TORCH_DIR}/version.py")
  message(FATAL_ERROR
    "shardplan is built against an installed torch, and none was found at ${torch_place}.\n" ${torch_hint})
endif()

file(STRINGS "${TORCH_DIR}/version.py" version_line REGEX "^__version__")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+[^'\"]*" TORCH_VERSION "${version_line}")
if(TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR
    "shardplan needs torch 2.11 or later; found torch ${TORCH_VERSION} at ${TORCH_DIR}.\n" ${torch_hint})
endif()

set(pybind11_header "${TORCH_DIR}/include/pybind11/detail/common.h")
foreach(name torch_python torch_cpu c10)
  set(library_${name} "${TORCH_DIR}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}")
endforeach()
foreach(file "${pybind11_header}" "${library_torch_python}" "${library_torch_cpu}" "${library_c10}")
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "torch ${TORCH_VERSION} at ${TORCH_DIR} lacks ${file}.\n" ${torch_hint})
  endif()
endforeach()

set(TORCH_PYBIND11_VERSION "")
foreach(part MAJOR MINOR PATCH)
  file(STRINGS "${pybind11_header}" line REGEX "#define PYBIND11_VERSION_${part} +[0-9]+")
  string(REGEX MATCH "${part} +([0-9]+)" _ "${line}")
  list(APPEND TORCH_PYBIND11_VERSION "${CMAKE_MATCH_1}")
endforeach()
list(JOIN TORCH_PYBIND11_VERSION "." TORCH_PYBIND11_VERSION)

set(TORCH_CXX11_ABI 1)
if(EXISTS "${TORCH_DIR}/share/cmake/Torch/TorchConfig.cmake")
  file(STRINGS "${TORCH_DIR}/share/cmake/Torch/TorchConfig.cmake" abi_line REGEX "_GLIBCXX_USE_CXX11_ABI=")
  if(abi_line MATCHES "_GLIBCXX_USE_CXX11_ABI=([01])")
    set(TORCH_CXX11_ABI "${CMAKE_MATCH_1}")
  endif()
endif()

add_library(torch_by_path INTERFACE)
target_include_directories(torch_by_path SYSTEM INTERFACE
  "${TORCH_DIR}/include" "${TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(torch_by_path INTERFACE
  "${library_torch_python}" "${library_torch_cpu}" "${library_c10}")
message(STATUS "shardplan: torch ${TORCH_VERSION} at ${TORCH_DIR}, its pybind11 ${TORCH_PYBIND11_VERSION}")
