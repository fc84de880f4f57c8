# `cmake --install` makes a tree that can be moved: installed into a folder, moved, and run there, from another folder and without
# the source tree: the program, its shipped configurations, a training, and the Slurm scripts beside it (printed only).
set -eu
build=$(cd "$(dirname "$CROCUTA")/.." && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

DESTDIR='' cmake --install "$build" --prefix "$work/first" >"$work/log" 2>&1 || fail "$(tail -n 20 "$work/log")"
mkdir "$work/elsewhere"
mv "$work/first" "$work/elsewhere/a tree"
tree="$work/elsewhere/a tree"
cd "$work"
program=$tree/bin/crocuta

rpath=$(readelf -d "$program" | sed -n 's/.*R[UN]*PATH.*\[\(.*\)\]/\1/p')
[ "${rpath%%:*}" = '$ORIGIN/../lib' ] || fail "rpath $rpath: does not begin beside the program"
case $rpath in *"$build"* | *"$CROCUTA_SOURCE"*) fail "rpath $rpath leads back to the build" ;; esac
[ -z "$(ldd "$program" | grep 'not found')" ] || fail "$(ldd "$program" | grep 'not found')"

# Modules for GPUs, where the build has them: the program finds its own, and says of this machine what the build's says.
for module in "$build"/launch/libcrocuta_*.so; do
    [ -e "$module" ] || continue
    installed=$tree/lib/$(basename "$module")
    [ -e "$installed" ] || fail "$installed is not installed"
    ! readelf -d "$installed" | grep -q "R[UN]*PATH.*$build" || fail "$installed leads back to the build"
done

unset CROCUTA_HOME
"$program" --version | grep -q '^crocuta ' || fail "--version"
"$program" config | grep -q study || fail "the shipped configurations are not found"
"$program" config study >study.yaml || fail "config study"
cat >c.yaml <<TEXT
data: {path: $CROCUTA_SOURCE/tests/data/small.h5, seq_len: 64}
model: {d_model: 16, n_layer: 1, d_inner: 32, l_max: 66, filter_order: 16}
train: {steps: 3, tokens_per_step: 640}
TEXT
"$program" pretrain c.yaml -o run -q || fail "pretrain"
for p in "$CROCUTA" "$program"; do # without a GPU: why not
    "$p" pretrain c.yaml -o gpu --force --device cuda -q 2>>why || true
done
[ "$(sort -u why | wc -l)" -le 1 ] || fail "GPUs: $(cat why)"

share="$tree/share/crocuta"
for f in README.md LICENSE docs/cluster.md experiments/report.py launch/setup launch/lib.sh launch/fetch-1000genomes experiments/alpha-sweep-study.yaml launch/slurm/crocuta.def; do
    [ -e "$share/$f" ] || fail "$f is not installed"
done
[ -z "$(find "$tree" -name __pycache__)" ] || fail "leavings of Python"
"$share/launch/slurm/submit" c.yaml -o slurm --dry-run --hours 1 >printed 2>said || fail "submit: $(cat said)"
grep -q 'sbatch .*elsewhere/a\\ tree/share/crocuta/launch/slurm/pretrain.sbatch' printed || fail "$(cat printed)"
# A job finds the program the same way.
(HERE="$share/launch/slurm"; . "$HERE/common.sh"; site_read; program_find; [ "${PROGRAM[0]}" = "$(cd "$tree/bin" && pwd -P)/crocuta" ]) || fail "the job's program"

"$share/launch/fetch-1000genomes" -o people >/dev/null && grep -q 'elsewhere/a\\ tree/bin/crocuta}' people/fetch.sh || fail "$(cat people/fetch.sh)"

# With no program near the scripts it says so, instead of taking one from where this was built.
if (HERE="$work/elsewhere"; . "$share/launch/slurm/common.sh"; CONTAINER=''; program_find) 2>said; then fail "a program where there is none"; fi
grep -q 'no crocuta beside it' said || fail "$(cat said)"
echo "0 failed"
