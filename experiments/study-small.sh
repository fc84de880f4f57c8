#!/usr/bin/env bash
# The study's way on a data set of people: for each alpha a next-SNP pretraining, then for each context a fine-tuning from
# it and one from scratch, each evaluated once on the test people beside the simple methods.
# usage: experiments/study-small.sh DATA.h5 OUT ["ALPHAS"] ["CONTEXTS"] [key=value ...]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
data=$(realpath "${1:?DATA.h5}") out=${2:?OUT}
alphas=${3:-1 10 100} contexts=${4:-128 512}
shift $(($# < 4 ? $# : 4))
run() { # under 1 coordinator + 2 workers where mpirun is there, as one process otherwise
    if command -v mpirun >/dev/null 2>&1 && [ "${WORKERS:-2}" -gt 1 ]; then
        mpirun -q --allow-run-as-root --bind-to none --oversubscribe -n $((1 + ${WORKERS:-2})) "$root/crocuta" "$@"
    else
        "$root/crocuta" "$@"
    fi
}
mkdir -p "$out"
cp "$root/experiments/study-small.yaml" "$out/study.yaml"
for alpha in $alphas; do
    pre=$out/alpha$alpha-pretrain
    [ -e "$pre/done" ] || { run pretrain "$out/study.yaml" -o "$pre" --force "data.path=$data" "position.alpha=$alpha" "$@"; touch "$pre/done"; }
    [ -e "$pre/evaluate" ] || "$root/crocuta" evaluate "$pre" "$data" -o "$pre/evaluate" --context 512 --baselines lookup
    for n in $contexts; do
        for from in "$pre" none; do
            name=$out/alpha$alpha-n$n-$([ "$from" = none ] && echo scratch || echo finetuned)
            [ -e "$name/done" ] && continue
            run finetune "$out/study.yaml" --from "$from" -o "$name" --force "data.path=$data" "position.alpha=$alpha" "data.seq_len=$n" "$@"
            "$root/crocuta" evaluate "$name" "$data" -o "$name/evaluate" --context "$n" --baselines majority,nb,nb-absent,logistic --force
            touch "$name/done"
        done
    done
done
