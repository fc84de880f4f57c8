# Sourced by the scripts of experiments: where things are, what is said, and runs that go on where they were cut. `train`
# wants $config and $threads; with dry=1 commands are only shown.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
crocuta=${CROCUTA:-$root/crocuta}
python=${PYTHON:-$([ -x "$root/build/venv/bin/python" ] && echo "$root/build/venv/bin/python" || echo python3)}
dry=0

usage_error() { echo "crocuta: error: $(basename "$0"): $1" >&2; exit 2; }

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }

run() { # LOG COMMAND...: its progress goes to the log; a failure shows its last error
    local log=$1 before=0
    shift
    if [ "$dry" = 1 ]; then
        printf '  crocuta %s\n' "$*"
        return 0
    fi
    [ ! -e "$log" ] || before=$(stat -c %s "$log")
    printf '$ crocuta %s\n' "$*" >>"$log"
    "$crocuta" "$@" >>"$log" 2>&1 && return 0
    tail -c +$((before + 1)) "$log" | grep '^crocuta: error:' | tail -1 >&2 || echo "crocuta: error: $log: crocuta ended without a word; look at the log, and at memory" >&2
    return 1
}

train() { # COMMAND RUN LOG options...: fresh, or from the newest checkpoint
    local command=$1 to=$2 log=$3
    shift 3
    local how=--force
    compgen -G "$to/checkpoints/*.h5" >/dev/null && how=--resume
    run "$log" "$command" "$config" -o "$to" --threads "$threads" $how "$@"
}
