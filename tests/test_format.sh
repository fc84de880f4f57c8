# Every C file is as clang-format would write it. Skipped where clang-format is not installed.
set -eu
cd "$CROCUTA_SOURCE"
if ! command -v clang-format >/dev/null 2>&1; then
    echo "skipped: clang-format is not here (apt-get install clang-format)"
    exit 77
fi
bad=0
for file in $(find runtime kernels comm io model launch tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp'); do
    if ! clang-format --style=file "$file" | cmp -s - "$file"; then
        echo "$file: not formatted; clang-format -i $file"
        bad=1
    fi
done
exit $bad
