# The CUDA backend as a library of its own, kernels_cuda: by nvcc for sm_80, sm_90 and PTX, or, for tests only, by the
# C++ compiler with tests/hostcuda in the place of NVIDIA's libraries (CROCUTA_CUDA=HOST). AUTO builds it where nvcc
# works and goes without where it does not. Sets cuda_kind: OFF, NVCC or HOST.
set(cuda_kind OFF)
find_program(CROCUTA_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)

if(CROCUTA_CUDA STREQUAL HOST)
  get_filename_component(cuda_bin "${CROCUTA_NVCC}" DIRECTORY)
  find_path(CROCUTA_CUDA_INCLUDE cufft.h HINTS ENV CUDA_HOME PATHS ${cuda_bin}/.. /usr/local/cuda PATH_SUFFIXES include)
  if(NOT CROCUTA_CUDA_INCLUDE)
    message(FATAL_ERROR "CROCUTA_CUDA=HOST needs NVIDIA's headers (cufft.h and others): install a CUDA toolkit or set CUDA_HOME")
  endif()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
    message(FATAL_ERROR "CROCUTA_CUDA=HOST switches fibers by hand, on x86-64 only")
  endif()
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  set(CMAKE_CXX_EXTENSIONS OFF)
  enable_language(CXX)
  set(cuda_kind HOST)
elseif(NOT CROCUTA_CUDA STREQUAL OFF)
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90") # 8.x by sm_80, 9.x by sm_90, newer ones by PTX
  if(CROCUTA_NVCC)
    set(ENV{CUDACXX} ${CROCUTA_NVCC})
    check_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    enable_language(CUDA)
    # CMake before 3.25.2 stumbles over this target where the toolkit has none, as from CUDA 13 on; nothing here uses it.
    if(NOT TARGET CUDA::nvToolsExt)
      add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(cuda_kind NVCC)
  elseif(CROCUTA_CUDA STREQUAL ON)
    message(FATAL_ERROR "CROCUTA_CUDA=ON: no working nvcc; install a CUDA toolkit, put nvcc on PATH or set CUDA_HOME")
  endif()
endif()

if(NOT cuda_kind STREQUAL OFF)
  file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.c ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  add_library(kernels_cuda STATIC ${cuda_sources})
  target_link_libraries(kernels_cuda PUBLIC core)
endif()
if(cuda_kind STREQUAL NVCC)
  target_compile_options(kernels_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;-Werror=all-warnings>")
  target_link_libraries(kernels_cuda PUBLIC CUDA::cudart CUDA::cublas CUDA::cufft)
endif()

# A test build has the backend in the program. A real one has it in a module beside the program, loaded when a GPU is
# asked for: the CUDA libraries need not be there to start, and take 0.1 s where they are (kernels/gpu.h). The module
# uses what the program has of core, which the program therefore exports.
if(cuda_kind STREQUAL HOST)
  target_compile_definitions(kernels PRIVATE CROCUTA_GPU_LINKED GPU_BACKEND=hostcuda_gpu_backend)
  target_link_libraries(kernels PUBLIC hostcuda_far kernels_cuda)
elseif(cuda_kind STREQUAL NVCC)
  set_target_properties(kernels_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON)
  add_library(gpu_module MODULE $<TARGET_OBJECTS:kernels_cuda>)
  set_target_properties(gpu_module PROPERTIES OUTPUT_NAME crocuta_cuda LINKER_LANGUAGE CUDA
                        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/launch)
  target_link_libraries(gpu_module PRIVATE CUDA::cudart CUDA::cublas CUDA::cufft)
  add_dependencies(kernels gpu_module)
  target_compile_definitions(kernels PRIVATE CROCUTA_GPU_MODULE="libcrocuta_cuda.so")
  target_link_libraries(kernels PUBLIC ${CMAKE_DL_LIBS})
  target_link_options(kernels INTERFACE -rdynamic)
  list(APPEND CMAKE_BUILD_RPATH "${CMAKE_BINARY_DIR}/launch") # of programs that follow; launch/install.cmake has another
endif()

# Compiles .cu files as C++ with the shim in front; for HOST, in the folder that calls it.
function(cuda_sources_for_host)
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX
    COMPILE_OPTIONS "-xc++;-include;${CMAKE_SOURCE_DIR}/tests/hostcuda/device.h;-Wno-unknown-pragmas"
    OBJECT_DEPENDS ${CMAKE_SOURCE_DIR}/tests/hostcuda/device.h)
endfunction()
if(cuda_kind STREQUAL HOST)
  file(GLOB cu CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  cuda_sources_for_host(${cu})
  # Small shapes shall have several chunks, segments and tiles a block.
  target_compile_definitions(kernels_cuda PRIVATE CUDA_CHUNK_BYTES=32768 CUDA_SEGMENT=512 CUDA_LN_BLOCKS=3 SORT_ROUNDS=2)
  target_include_directories(kernels_cuda SYSTEM PUBLIC ${CROCUTA_CUDA_INCLUDE})
  target_compile_definitions(kernels_cuda PRIVATE CONV_CHUNK_BYTES=524288 FILTER_SPAN_BYTES=32768)
endif()
message(STATUS "CUDA backend: ${cuda_kind}")
