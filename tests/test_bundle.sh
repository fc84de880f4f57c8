# The folder that launch/bundle makes is small enough, has what the build asks for, and every library in it finds what it
# needs in the folder or in what each machine with a compiler has. Skipped where there is no dpkg.
set -eu
if ! command -v dpkg >/dev/null 2>&1; then
    echo "skipped: no dpkg here"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

"$CROCUTA_SOURCE/launch/bundle" "$work/deps" || fail "launch/bundle"
if "$CROCUTA_SOURCE/launch/bundle" "$work/deps" 2>"$work/again"; then fail "a folder that is there is overwritten"; fi
grep -q 'is there already' "$work/again" || fail "$(cat "$work/again")"

. "$work/deps/env.sh"
lib=$work/deps/usr/lib/$(cat "$work/deps/multiarch")
for name in libmpi.so libhdf5_openmpi.so libhts.so libblas.so libfftw3f.so libyaml.so libjansson.so libz.so libcmocka.so; do
    [ -e "$lib/$name" ] || fail "$name is not there"
done
find "$work/deps/usr" -type f \( -name '*.so*' -o -path '*/bin/*' \) | while read -r f; do
    ldd "$f" 2>/dev/null | awk '$2 == "=>" && $3 == "not" {print $1}' | grep -v -e libopenblas -e liboshmem | sed "s|^|${f##*/} needs |"
done >"$work/lacking"
[ ! -s "$work/lacking" ] || fail "$(cat "$work/lacking")"
outside=$(ldd "$lib/libmpi.so" "$lib/libhdf5_openmpi.so" "$lib/libhts.so" | awk '$2 == "=>" {print $3}' | grep -v "^$work/" | grep -vE '/(libc|libm|libdl|libpthread|librt|libutil|libresolv|libgcc_s|libstdc\+\+|libgomp|libcrypt)\.so' || true)
[ -z "$outside" ] || fail "taken from outside: $outside"
mpirun -q --oversubscribe --bind-to none -n 2 true || fail "mpirun of the folder"

# cmake takes it
cmake -S "$CROCUTA_SOURCE" -B "$work/build" -G Ninja -DCROCUTA_DEPS="$work/deps" -DCROCUTA_CUDA=OFF -DCROCUTA_TESTS=ON >"$work/cmake" 2>&1 || fail "$(tail -n 20 "$work/cmake")"
grep -q "parallel HDF5: .*hdf5-openmpi" "$work/cmake" || fail "$(cat "$work/cmake")"
if cmake -S "$CROCUTA_SOURCE" -B "$work/none" -G Ninja -DCROCUTA_DEPS="$work/nowhere" >"$work/cmake" 2>&1; then fail "a folder that is not there"; fi
grep -q "no folder that launch/bundle" "$work/cmake" || fail "$(cat "$work/cmake")"
