# What Crocuta stands on. Each library is found by compiling and linking a small program, not by the presence of
# a file; what is missing is named together with the command that installs it. A summary of one screen ends it.
include(CheckCSourceCompiles)
include(CMakePushCheckState)

set(dependency_summary "")
set(dependency_missing "")

# dependency(NAME "description" "debian packages" "pkg-config names, best first" "headers and main of a probe")
# makes the target dep::NAME.
function(dependency name what debian modules probe)
  set(version "")
  foreach(module ${modules})
    string(MAKE_C_IDENTIFIER "PC_${name}_${module}" prefix)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${module})
    if(${prefix}_FOUND)
      cmake_push_check_state()
      set(CMAKE_REQUIRED_LIBRARIES PkgConfig::${prefix} MPI::MPI_C m)
      set(CMAKE_REQUIRED_QUIET ON)
      check_c_source_compiles("${probe}" ${prefix}_LINKS)
      cmake_pop_check_state()
      if(${prefix}_LINKS)
        add_library(dep::${name} INTERFACE IMPORTED GLOBAL)
        target_link_libraries(dep::${name} INTERFACE PkgConfig::${prefix})
        set(version "${${prefix}_VERSION} (${module})")
        break()
      endif()
    endif()
  endforeach()
  if(version)
    set(dependency_summary "${dependency_summary}\n    ${what}: ${version}" PARENT_SCOPE)
  else()
    set(dependency_missing "${dependency_missing}\n    ${what}: apt-get install ${debian}" PARENT_SCOPE)
  endif()
endfunction()

# A folder that launch/bundle made: libraries, headers and pkg-config files below it instead of the machine's.
if(CROCUTA_DEPS)
  get_filename_component(deps "${CROCUTA_DEPS}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")
  if(NOT EXISTS "${deps}/multiarch")
    message(FATAL_ERROR "CROCUTA_DEPS=${CROCUTA_DEPS}: no folder that launch/bundle made; run launch/bundle FOLDER where the libraries are installed")
  endif()
  file(STRINGS "${deps}/multiarch" multiarch)
  set(deps_lib "${deps}/usr/lib/${multiarch}")
  set(PKG_CONFIG_EXECUTABLE "${deps}/usr/bin/pkgconf" CACHE FILEPATH "")
  set(ENV{PKG_CONFIG_LIBDIR} "${deps_lib}/pkgconfig:${deps}/usr/share/pkgconfig")
  set(ENV{PKG_CONFIG_SYSROOT_DIR} "${deps}")
  set(ENV{LD_LIBRARY_PATH} "${deps_lib}:$ENV{LD_LIBRARY_PATH}")
  include_directories(SYSTEM "${deps}/usr/include" "${deps}/usr/include/${multiarch}")
  set(CMAKE_REQUIRED_INCLUDES "${deps}/usr/include" "${deps}/usr/include/${multiarch}")
  set(CMAKE_BUILD_RPATH "${deps_lib}")
  add_link_options("-Wl,--disable-new-dtags" # an rpath that also serves what libraries need
    "-Wl,-rpath-link,${deps_lib}")
  set(CMAKE_REQUIRED_LINK_OPTIONS "-Wl,-rpath-link,${deps_lib}")
  add_library(MPI::MPI_C INTERFACE IMPORTED GLOBAL)
  target_include_directories(MPI::MPI_C INTERFACE "${deps_lib}/openmpi/include")
  target_link_libraries(MPI::MPI_C INTERFACE "${deps_lib}/libmpi.so")
  set(MPI_C_FOUND TRUE)
  set(MPI_C_VERSION "of ${deps}")
  set(MPI_C_COMPILER "libmpi.so")
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
if(NOT CROCUTA_DEPS)
  find_package(MPI COMPONENTS C)
endif()
if(MPI_C_FOUND)
  set(dependency_summary "${dependency_summary}\n    MPI: ${MPI_C_VERSION} (${MPI_C_COMPILER})")
else()
  set(dependency_missing "${dependency_missing}\n    MPI: apt-get install libopenmpi-dev openmpi-bin")
endif()

dependency(hdf5 "parallel HDF5" libhdf5-openmpi-dev "hdf5-openmpi;hdf5" "
#include <hdf5.h>
#ifndef H5_HAVE_PARALLEL
#error this HDF5 was built without MPI
#endif
int main(void) { return H5Pset_fapl_mpio(0, MPI_COMM_WORLD, MPI_INFO_NULL) < 0; }")
dependency(htslib "htslib" libhts-dev "htslib" "
#include <htslib/vcf.h>
int main(void) { return hts_open(\"x\", \"r\") == NULL; }")
dependency(blas "CBLAS" libopenblas-dev "openblas;cblas;blas;blas-netlib" "
#include <cblas.h>
int main(void) { float a = 1, b = 2, c = 0; cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 1, 1, 1, 1, &a, 1, &b, 1, 0, &c, 1); return c != 2; }")
dependency(fftw "FFTW, single precision" libfftw3-dev "fftw3f" "
#include <fftw3.h>
int main(void) { return fftwf_malloc(64) == NULL; }")
dependency(yaml "libyaml" libyaml-dev "yaml-0.1" "
#include <yaml.h>
int main(void) { yaml_parser_t p; return !yaml_parser_initialize(&p); }")
dependency(jansson "jansson" libjansson-dev "jansson" "
#include <jansson.h>
int main(void) { return json_object() == NULL; }")
dependency(zlib "zlib" zlib1g-dev "zlib" "
#include <zlib.h>
int main(void) { return crc32(0, 0, 0) != 0; }")
if(CROCUTA_TESTS)
  dependency(cmocka "cmocka (tests)" libcmocka-dev "cmocka" "
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
int main(void) { return cmocka_run_group_tests_name(\"x\", (const struct CMUnitTest *)0, 0, 0) != 0; }")
endif()

if(dependency_missing)
  message(FATAL_ERROR "missing, with the command that installs each (or run ./launch/setup):${dependency_missing}")
endif()
message(STATUS "Crocuta ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}, ${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}, built on:${dependency_summary}")
