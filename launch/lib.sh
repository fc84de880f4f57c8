# What the scripts of this folder share: where things lie, one moving line for long work, and the checks that every
# one of them makes first. Sourced, never run.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
LOGS=$ROOT/logs
VENV=$ROOT/build/venv
CORES=$(nproc 2>/dev/null || echo 1)

# Debian's and Ubuntu's names stand in missing_packages below; docs/dependencies.md says what each is for.
PACKAGES_PYTHON="python3-venv"
PYTHON_PINS="numpy==2.4.6 matplotlib==3.11.2 msprime==1.4.4 h5py==3.16.0"
# One release of NVIDIA's: compiler, runtime, cuBLAS, cuFFT, NCCL. nvjitlink is what cuFFT needs.
CUDA_PINS="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-nvtx==13.0.85
 nvidia-cublas==13.1.0.3 nvidia-cufft==12.0.0.61 nvidia-nvjitlink==13.0.88 nvidia-nccl-cu13==2.28.9"
CUDA_HOME_OWN=$ROOT/build/cuda/nvidia/cu13

say() { printf '%s\n' "$*" >&2; }
die() {
    printf 'crocuta: error: %s\n' "$1" >&2
    exit "${2:-1}"
}

# run_logged NAME COMMAND...: one moving line while the command works, everything it prints in logs/NAME.log.
# On a terminal the line is redrawn; elsewhere a line is written every five seconds. HINT: what to do where it fails.
run_logged() {
    local name=$1 log=$LOGS/$1.log begun now last=0 status
    shift
    mkdir -p "$LOGS"
    begun=$(date +%s)
    "$@" >"$log" 2>&1 </dev/null &
    local pid=$!
    trap 'kill '"$pid"' 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        now=$(($(date +%s) - begun))
        local tail
        tail=$(tail -c 400 "$log" 2>/dev/null | tr '\r' '\n' | grep -a . | tail -n 1 | cut -c1-80) || true
        if [ -t 2 ]; then
            printf '\r\033[K  %-10s %4d s  %s' "$name" "$now" "$tail" >&2
        elif [ $((now - last)) -ge 5 ]; then
            printf '  %-10s %4d s  %s\n' "$name" "$now" "$tail" >&2
            last=$now
        fi
        sleep 0.5
    done
    status=0
    wait "$pid" || status=$?
    trap - INT TERM
    now=$(($(date +%s) - begun))
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
    if [ $status -ne 0 ]; then
        tail -n 15 "$log" >&2
        die "$log: $name ended with status $status; the lines above are its last${HINT:+, $HINT}" "$status"
    fi
    printf '  %-10s %4d s  done (logs/%s.log)\n' "$name" "$now" "$name" >&2
}

# The conda or module prefix that the caller named (or that setup remembered) comes first.
use_prefix() {
    if ! command -v nvcc >/dev/null 2>&1 && [ -x "$CUDA_HOME_OWN/bin/nvcc" ]; then # launch/setup --cuda
        export CUDA_HOME=$CUDA_HOME_OWN PATH=$CUDA_HOME_OWN/bin:$PATH
    fi
    [ -z "${CONDA:-}" ] && [ -f "$ROOT/build/prefix" ] && CONDA=$(cat "$ROOT/build/prefix")
    [ -z "${CONDA:-}" ] && return 0
    [ "${CONDA#/}" != "$CONDA" ] || CONDA=$PWD/$CONDA
    [ -d "$CONDA" ] || die "--conda $CONDA: no such folder; name the environment's prefix (conda env list shows it)" 2
    export PATH=$CONDA/bin:$PATH PKG_CONFIG_PATH=$CONDA/lib/pkgconfig:$CONDA/share/pkgconfig:${PKG_CONFIG_PATH:-}
    export CMAKE_PREFIX_PATH=$CONDA LD_LIBRARY_PATH=$CONDA/lib:${LD_LIBRARY_PATH:-}
}

# Tools and libraries that the build needs and this machine lacks, as Debian package names.
missing_packages() {
    local tool module
    for tool in gcc:gcc cmake:cmake ninja:ninja-build pkg-config:pkg-config mpicc:libopenmpi-dev mpirun:openmpi-bin git:git; do
        command -v "${tool%%:*}" >/dev/null 2>&1 || printf '%s ' "${tool##*:}"
    done
    for module in "hdf5-openmpi hdf5:libhdf5-openmpi-dev" "htslib:libhts-dev" "openblas cblas:libopenblas-dev" \
        "fftw3f:libfftw3-dev" "yaml-0.1:libyaml-dev" "jansson:libjansson-dev" "zlib:zlib1g-dev" "cmocka:libcmocka-dev"; do
        local found=
        for name in ${module%%:*}; do
            pkg-config --exists "$name" 2>/dev/null && found=1
        done
        [ -n "$found" ] || printf '%s ' "${module##*:}"
    done
    # oneDNN has no pkg-config file; conda calls it onednn.
    if [ ! -e /usr/include/dnnl.h ] && [ ! -e /usr/include/oneapi/dnnl/dnnl.h ] && [ ! -e "${CONDA:-/nowhere}/include/dnnl.h" ]; then
        printf 'libdnnl-dev '
    fi
}

python_ready() {
    [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/pins" 2>/dev/null)" = "$PYTHON_PINS" ]
}
