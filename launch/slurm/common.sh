# What `submit` and the jobs share: the site's settings, where the program lies, and how something is said. Sourced, never
# run; HERE is this folder.
say() { printf 'crocuta: slurm: %s\n' "$*" >&2; }
die() {
    printf 'crocuta: error: %s\n' "$1" >&2
    exit "${2:-2}"
}

site_read() {
    CROCUTA_SITE=${CROCUTA_SITE:-$HERE/site.conf}
    [ -r "$CROCUTA_SITE" ] || die "$CROCUTA_SITE: no settings of a site; unset CROCUTA_SITE, or name a file made from $HERE/site.conf"
    . "$HERE/site.conf" # every key has a value, whatever the other file leaves out
    . "$CROCUTA_SITE" || die "$CROCUTA_SITE: not shell syntax; write KEY=value, with quotes around blanks"
    local key
    for key in GPUS_PER_NODE WORKERS_PER_NODE CORES_PER_NODE MEMORY_PER_NODE MAX_NODES MAX_HOURS MAX_STALLED; do
        [[ ${!key} =~ ^[0-9]+$ ]] || die "$CROCUTA_SITE: $key=${!key} is no whole number; see $HERE/site.conf"
    done
    case $COORDINATOR in auto | dedicated | worker) ;; *) die "$CROCUTA_SITE: COORDINATOR=$COORDINATOR; write auto, dedicated or worker" ;; esac
}

# PROGRAM: what a rank runs. Beside this folder in a source tree, or above it in an installed one; CROCUTA_PROGRAM wins.
program_find() {
    local candidate
    PROGRAM=()
    if [ -n "$CONTAINER" ] && [ -z "${CROCUTA_PROGRAM:-}" ]; then
        local tool
        tool=$(command -v apptainer || command -v singularity) || die "$CROCUTA_SITE: CONTAINER=$CONTAINER, but there is no apptainer here; load its module or leave it empty" 4
        [ -e "$CONTAINER" ] || die "$CONTAINER: no such image; apptainer build $CONTAINER $HERE/crocuta.def makes it" 4
        PROGRAM=("$tool" exec)
        [ "$GPUS_PER_NODE" -eq 0 ] || PROGRAM+=(--nv)
        [ -z "$CONTAINER_BINDS" ] || PROGRAM+=(--bind "$CONTAINER_BINDS")
        PROGRAM+=(--bind "$PWD" "$CONTAINER" crocuta)
        return
    fi
    for candidate in ${CROCUTA_PROGRAM:+"$CROCUTA_PROGRAM"} "$HERE/../../crocuta" "$HERE/../../../../bin/crocuta"; do
        if [ -x "$candidate" ]; then
            PROGRAM=("$(cd "$(dirname "$candidate")" && pwd -P)/$(basename "$candidate")")
            local deps=${PROGRAM[0]%/bin/*}/lib/deps/env.sh # a tree that was built with launch/bundle's libraries
            # shellcheck disable=SC1090
            [ ! -f "$deps" ] || . "$deps"
            return
        fi
        [ "$candidate" != "${CROCUTA_PROGRAM:-}" ] || die "CROCUTA_PROGRAM=$candidate: no such program; name one, or unset it"
    done
    die "$HERE: no crocuta beside it; ./launch/build makes it, or name one with CROCUTA_PROGRAM" 4
}

modules_load() {
    [ -n "$MODULES" ] || return 0
    local file
    if ! command -v module >/dev/null 2>&1; then # a batch shell has not read the profile
        for file in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh /usr/share/lmod/lmod/init/bash; do
            # shellcheck disable=SC1090
            [ ! -r "$file" ] || { set +u; . "$file"; set -u; break; }
        done
    fi
    command -v module >/dev/null 2>&1 || die "$CROCUTA_SITE: MODULES=$MODULES, but there is no module command here; leave it empty" 4
    set +u # module functions are not written for it
    # shellcheck disable=SC2086
    module load $MODULES || die "$CROCUTA_SITE: module load $MODULES failed; module avail shows what there is" 4
    set -u
}

# coordinator_choose CONFIG GPUS [key=value ...]: COORDINATOR as the command line says, or the configuration, or the site.
coordinator_choose() {
    local key written
    written=$(sed -n 's/^comm:.*coordinator: *\([a-z]*\).*/\1/p; /^comm:/,/^[a-z]/s/^ *coordinator: *\([a-z]*\).*/\1/p' "$1" 2>/dev/null | head -n 1) || true # a sweep may be named, not a file
    COORDINATOR=${written:-$COORDINATOR}
    [ "$COORDINATOR" != auto ] || COORDINATOR=$([ "$2" -gt 0 ] && echo dedicated || echo worker)
    for key in "${@:3}"; do
        case $key in comm.coordinator=*) COORDINATOR=${key#*=} ;; esac
    done
}
