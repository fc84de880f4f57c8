# `cmake --install BUILD --prefix FOLDER`: a tree that can be moved, for a cluster. FOLDER/bin/crocuta, the shipped
# configurations, the Slurm scripts and the pages in FOLDER/share/crocuta, and in FOLDER/lib the program's modules for GPUs
# and what the build found in its own folders and no other machine has: a CUDA toolkit of launch/setup --cuda, the libraries
# of launch/bundle (in lib/deps).
set(install_rpath "$ORIGIN/../lib")
set(modules TRUE) # libraries of modules and of conda stay where they are
if(CROCUTA_DEPS)
  set(modules FALSE)
  list(PREPEND install_rpath "$ORIGIN/../lib/deps/usr/lib/${multiarch}")
  install(DIRECTORY "${deps}/" DESTINATION lib/deps USE_SOURCE_PERMISSIONS)
endif()
set_target_properties(crocuta PROPERTIES INSTALL_RPATH "${install_rpath}" INSTALL_RPATH_USE_LINK_PATH ${modules})
install(TARGETS crocuta RUNTIME DESTINATION bin)
set(loaded "") # when a GPU is asked for
if(cuda_kind STREQUAL NVCC)
  set_target_properties(gpu_module comm_module PROPERTIES INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH ${modules})
  install(TARGETS gpu_module comm_module LIBRARY DESTINATION lib)
  set(loaded MODULES "\"$<TARGET_FILE:gpu_module>\"" "\"$<TARGET_FILE:comm_module>\"")
  list(JOIN loaded " " loaded)
endif()

set(share share/crocuta)
install(DIRECTORY experiments docs DESTINATION ${share} USE_SOURCE_PERMISSIONS PATTERN __pycache__ EXCLUDE)
install(DIRECTORY launch/slurm DESTINATION ${share}/launch USE_SOURCE_PERMISSIONS)
install(PROGRAMS launch/setup launch/fetch-1000genomes DESTINATION ${share}/launch) # setup: --python, for reports
install(FILES launch/lib.sh DESTINATION ${share}/launch)
install(FILES README.md LICENSE DESTINATION ${share})

install(CODE "
  file(GET_RUNTIME_DEPENDENCIES EXECUTABLES \"$<TARGET_FILE:crocuta>\" ${loaded} RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR missing
    PRE_EXCLUDE_REGEXES \"^ld-linux|^libc[.]so|^libm[.]so\"
    POST_INCLUDE_REGEXES \"^${CMAKE_SOURCE_DIR}/build/cuda/\" POST_EXCLUDE_REGEXES \".*\")
  foreach(library IN LISTS found)
    file(INSTALL DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib\" TYPE SHARED_LIBRARY FOLLOW_SYMLINK_CHAIN FILES \"\${library}\")
  endforeach()")
