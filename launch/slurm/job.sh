# What every job script does: reads the site's settings, places the ranks, counts how far the run has come, and on exit
# status 75 (stopped on request, checkpoint committed) puts the job back into the queue. Sourced in the batch shell, on
# the job's first node; HERE comes from there.
set -u -o pipefail
. "$HERE/common.sh"

STOPPED=75 # of the program: run it again with --resume
HOSTS=     # a list of nodes, a line a rank

# job_open CONFIG RUN [key=value ...]: settings, modules, program, ranks.
job_open() {
    CONFIG=$1 RUN=$2
    site_read
    modules_load
    program_find
    THREADS=${SLURM_CPUS_PER_TASK:-1}
    . "$HERE/env.sh"
    [ -n "${SLURM_JOB_GPUS:-${SLURM_GPUS_ON_NODE:-}}" ] && GPUS=1 || GPUS=0
    coordinator_choose "$CONFIG" $GPUS "${@:3}"
    ranks_place
    BEFORE=$(progress)
    trap 'rm -f "$HOSTS"' EXIT
    say "job $SLURM_JOB_ID, attempt $((${SLURM_RESTART_COUNT:-0} + 1)): $RANKS ranks of $THREADS threads on $SLURM_JOB_NODELIST, coordinator $COORDINATOR, $(date '+%F %T')"
}

# RANKS and LAYOUT. A dedicated coordinator is one more task on the first node, and no task's worth of cores is used on the
# others: they all were given the same number.
ranks_place() {
    local nodes=${SLURM_JOB_NUM_NODES:-1} tasks
    tasks=${SLURM_NTASKS_PER_NODE:-$((${SLURM_NTASKS:-1} / nodes))}
    [ "$tasks" -gt 1 ] || [ "$nodes" -gt 1 ] || COORDINATOR=worker # one rank is a worker with the coordinator inside
    LAYOUT=()
    RANKS=$((tasks * nodes))
    [ "$COORDINATOR" = dedicated ] && [ "$nodes" -gt 1 ] || return 0
    [ "$tasks" -gt 1 ] || die "job $SLURM_JOB_ID: one task a node leaves no place for a dedicated coordinator; give --ntasks-per-node=2, or comm.coordinator=worker"
    RANKS=$((1 + nodes * (tasks - 1)))
    HOSTS=$(mktemp) || die "$(dirname "$(mktemp -u)"): nothing can be written there; set SCRATCH in $CROCUTA_SITE" 4
    scontrol show hostnames "$SLURM_JOB_NODELIST" | awk -v n=$((tasks - 1)) 'NR == 1 {print} {for (i = 0; i < n; i++) print}' >"$HOSTS"
    LAYOUT=(--distribution=arbitrary)
    unset SLURM_NTASKS_PER_NODE # srun would warn that the first node has one more
}

# ranks_run COMMAND ...: crocuta on all ranks; its status. Each sees every GPU that the job has on its node, and takes the one
# of its local rank among the workers.
ranks_run() {
    local options=(--mpi="$MPI" -K1 --ntasks="$RANKS" "${LAYOUT[@]}")
    [ -z "$HOSTS" ] || local -x SLURM_HOSTFILE=$HOSTS
    srun "${options[@]}" "${PROGRAM[@]}" "$@" --threads "$THREADS"
}

# ranks_run_writing FILE COMMAND ...: the same, for a command that leaves a mark in FILE. Two failures are not its own and pass:
# srun could not start the ranks (and may say 0 all the same), as where PMIx finds files that this job's attempt on a node that
# died left there; and what was left of such an attempt holds the run until its node notices.
ranks_run_writing() {
    local file=$1 before status try why
    shift
    before=$(stat -c '%i %Y %s' "$file" 2>/dev/null)
    for try in 1 2 3 4 5 6 7 8; do
        status=0
        ranks_run "$@" || status=$?
        if [ $status -eq 0 ] && [ "$before" = "$(stat -c '%i %Y %s' "$file" 2>/dev/null)" ]; then
            why="the ranks were not started" status=5
        elif [ $status -eq 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
            why="refused after a restart (status 2), perhaps because an earlier attempt still ends"
        else
            break
        fi
        [ "$try" -lt 8 ] || break
        say "job $SLURM_JOB_ID: $why; once more in $((try * 5)) s"
        sleep $((try * 5))
    done
    asked_to_stop $status "$file" "$before"
}

# asked_to_stop STATUS FILE BEFORE: the same, but for two cases. A rank that ends with 75 a moment before the others has srun -K1
# kill those, and 137 is what is left: the journal knows better. USR1 before the program listens ends it with 128 + 10.
asked_to_stop() {
    [ "$1" -ne 138 ] || return $STOPPED
    if [ "$1" -gt 128 ] && [ "$3" != "$(stat -c '%i %Y %s' "$2" 2>/dev/null)" ]; then
        case $(tail -n 1 "$2") in *'"end"'*'"stopped"'*) return $STOPPED ;; esac
    fi
    return "$1"
}

# train COMMAND ...: a training of CONFIG into RUN, new or continued; its status.
train() {
    local command=$1 more=()
    shift
    [ ! -e "$RUN/config.yaml" ] || more=(--resume)
    case " $* " in *" comm.coordinator="*) ;; *) more+=("comm.coordinator=$COORDINATOR") ;; esac
    ranks_run_writing "$RUN/events.jsonl" "$command" "$CONFIG" -o "$RUN" "${more[@]}" "$@"
}

# How far the run has come: the newest committed step of each of its trainings, and the trials that are done.
progress() {
    local done=0
    [ ! -r "$RUN/trials.tsv" ] || done=$(awk -F'\t' '$2 == "done"' "$RUN/trials.tsv" | wc -l)
    find "$RUN" -path '*/checkpoints/step-*.json' -printf '%f\t%h\n' 2>/dev/null |
        awk -F'\t' -v n="$done" '{gsub(/[^0-9]/, "", $1); if ($1 + 0 > newest[$2]) newest[$2] = $1 + 0} END {for (d in newest) n += newest[d]; print n + 0}'
}

# job_close STATUS: ends the job with the program's status, or puts it back into the queue.
job_close() {
    local status=$1 now stalled=0 kept=$RUN/slurm.stalled
    [ "$status" -eq $STOPPED ] || exit "$status"
    now=$(progress)
    if [ "$now" -le "$BEFORE" ]; then
        stalled=${SLURM_RESTART_COUNT:-0} # where there is no run directory yet, no attempt has come to a checkpoint
        [ ! -d "$RUN" ] || read -r _ stalled < <(grep -s "^$SLURM_JOB_ID " "$kept") || stalled=0
        stalled=$((stalled + 1))
    fi
    if [ "$stalled" -ge "$MAX_STALLED" ]; then
        say "job $SLURM_JOB_ID: stopped $stalled times in a row without a newer checkpoint; given up. Ask for more time (--hours), or lower checkpoint.every_minutes; the same submit goes on"
        exit $STOPPED
    fi
    [ ! -d "$RUN" ] || echo "$SLURM_JOB_ID $stalled" >"$kept" || say "$kept: cannot be written; attempts are not counted"
    case $(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *JobState=\([A-Z]*\).*/\1/p') in
    RUNNING) ;;
    *) exit $STOPPED ;; # cancelled: not ours to undo
    esac
    say "job $SLURM_JOB_ID: stopped on request at $now (before: $BEFORE); queued again"
    scontrol requeue "$SLURM_JOB_ID" || die "job $SLURM_JOB_ID: scontrol requeue failed; submit it again, it continues" $STOPPED
    sleep 60 # Slurm ends this shell
    exit $STOPPED
}
