# labels: hostcuda
# timeout: 1800
# The CUDA backend on a CPU, under ASan and UBSan: built in build/hostcuda, and its tests run there (docs/gpu.md). Skipped
# where NVIDIA's headers or a C++ compiler are not here.
set -eu
cd "$CROCUTA_SOURCE"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! command -v "${CXX:-c++}" >/dev/null 2>&1; then
    echo "skipped: no C++ compiler (apt-get install g++)"
    exit 77
fi
if ! cmake --preset hostcuda >"$log" 2>&1; then
    if grep -q "CROCUTA_CUDA=HOST" "$log"; then
        echo "skipped: no NVIDIA headers, or no x86-64 CPU"
        exit 77
    fi
    cat "$log"
    exit 1
fi
if ! cmake --build --preset hostcuda -j "$(nproc)" >"$log" 2>&1; then
    tail -n 50 "$log"
    exit 1
fi
exec ctest --test-dir build/hostcuda -L hostcuda --no-tests=error --output-on-failure
