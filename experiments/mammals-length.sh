#!/usr/bin/env bash
# Does length help? Of orthologous regions of several mammals one locus is learned, but for a tenth of it at each sequence's
# end, which choices are made on, and another locus is judged, once: next-nucleotide models of growing context beside Markov
# models by counting; then species from windows of growing length, beside logistic regression on 4-mers. What is done is
# skipped, what was cut goes on. With --small: two minutes of one core, to see that everything runs.
# After a change of keys remove the folders of OUT that they concern: a run goes on with what it was begun with, or says no.
# usage: experiments/mammals-length.sh FOLDER OUT [--small] [--contexts "256 1024"] [--species "1024 8192"] [--threads N]
#        [--learn PATTERN] [--judge PATTERN] [key=value ...]
# FOLDER holds SPECIES.fa.gz; a sequence whose name holds ENm001 (--learn) is learned, one with ENm002 (--judge) judged.
. "$(dirname "$0")/steps.sh"
contexts=default species=default threads=1 learn=ENm001 judge=ENm002 small=0
declare -a overrides=() places=()
while [ $# -gt 0 ]; do
    case $1 in
        --small) small=1; shift; continue ;;
        --contexts) contexts=${2?} ;;
        --species) species=${2?} ;;
        --threads) threads=${2:?} ;;
        --learn) learn=${2:?} ;;
        --judge) judge=${2:?} ;;
        --*) usage_error "$1 is not an option; see the head of the script" ;;
        *=*) overrides+=("$1"); shift; continue ;;
        *) places+=("$1"); shift; continue ;;
    esac
    shift 2
done
[ ${#places[@]} -eq 2 ] || usage_error "${#places[@]} names instead of a folder of FASTA files and an output folder"
folder=$(realpath "${places[0]}") out=${places[1]}
mkdir -p "$out"
out=$(realpath "$out")
config=$out/mammals-length.yaml
cp "$root/experiments/mammals-length.yaml" "$config"
if [ "$small" = 1 ]; then
    [ "$contexts" != default ] || contexts='256 2048'
    [ "$species" != default ] || species='1024 4096'
    window=4096 orders=6 bases=120000 # of a fine-tuning
    overrides=(train.steps=12 train.eval_every=6 train.eval_windows=20 model.n_layer=2 "${overrides[@]}")
else
    [ "$contexts" != default ] || contexts='256 1024 4096 16384'
    [ "$species" != default ] || species='1024 8192 32768'
    window=32768 orders=12 bases=18432000
fi

last_of_each() { # KEY=VALUE...: of a key that is there twice the last, into keys
    local pair
    declare -A value=()
    for pair in "$@"; do value[${pair%%=*}]=${pair#*=}; done
    keys=()
    for pair in "${!value[@]}"; do keys+=("$pair=${value[$pair]}"); done
}

table() { # ends cut to whole windows of the longest context, so that every context judges the same bases
    for f in "$folder"/*.fa.gz; do
        zcat "$f" | awk -v OFS='\t' -v label="$(basename "$f" .fa.gz)" -v W="$window" -v learn="$learn" -v judge="$judge" '
            function tell(held, last) {
                held = int(n / 10 / W + 0.5) * W
                if (held < W) held = W
                last = int(n / W) * W
                if (name ~ learn && n > held) {
                    print name ":1-" n - held, label, "train", learn
                    print name ":" n - held + 1 "-" n, label, "valid", learn
                } else if (name ~ judge && last > 0)
                    print name ":1-" last, label, "test", judge
            }
            /^>/ { tell(); name = substr($1, 2); n = 0; next }
            { gsub(/[ \t\r]/, ""); n += length($0) }
            END { tell() }'
    done
}

learn() { # NAME CONTEXT L_MAX
    last_of_each "data.seq_len=$2" "model.l_max=$3" "train.tokens_per_step=$(($2 > 16384 ? $2 : 16384))" \
        "train.eval_windows=$(($2 < 196608 ? 196608 / $2 : 1))" "${overrides[@]}"
    train pretrain "$1" "$1.log" "${keys[@]}"
}

next_base() { # CONTEXT
    local name=$out/context-$1
    [ -e "$name/done" ] && return 0
    say "context $1: learn"
    learn "$name" "$1" $(($1 + 2))
    for split in valid test; do # the test locus once
        say "context $1: judge, $split"
        run "$name.log" evaluate "$name" "$out/mammals.h5" -o "$name/$split" --split "$split" --context "$1" --baselines none --threads "$threads" --force
    done
    touch "$name/done"
}

classify() { # NAME LENGTH FROM BASES L_MAX: windows of every species in each step
    local name=$out/$1 labels tokens steps
    shift
    [ -e "$name/done" ] && return 0
    labels=$(ls "$folder"/*.fa.gz | wc -l)
    tokens=$(($1 * labels * (8192 > $1 ? 8192 / $1 : 1)))
    steps=$((($3 + tokens - 1) / tokens))
    say "species from $1 bases, $steps steps from $(basename "$2"): learn"
    last_of_each "data.seq_len=$1" "model.l_max=$4" "train.tokens_per_step=$tokens" optimizer.head_lr=1.0e-3 \
        scheduler.warmup=0.05 scheduler.min_lr=3.0e-5 "train.eval_windows=$((262144 / $1 > 20 ? 262144 / $1 : 20))" "${overrides[@]}" \
        "finetune.steps=$steps" "train.eval_every=$(((steps + 3) / 4))"
    train finetune "$name" "$name.log" --from "$2" "${keys[@]}"
    for split in valid test; do
        say "species from $1 bases: judge, $split"
        run "$name.log" evaluate "$name" "$out/mammals.h5" -o "$name/$split" --split "$split" --context "$1" --baselines majority,logistic --threads "$threads" --force
    done
    touch "$name/done"
}

all_species() { # each length from the classifier of the one before, all with filters for the longest; the shortest also with its own
    local n from shortest
    set -- $(printf '%s\n' $species | sort -n)
    [ $# -gt 0 ] || return 0
    shortest=$1 longest=${!#}
    from=$out/start-$shortest
    if compgen -G "$out/finetuned-*" >/dev/null || compgen -G "$out/start-*" >/dev/null; then
        [ "$*" = "$(cat "$out/species" 2>/dev/null)" ] || usage_error "$out has species from windows of $(cat "$out/species" 2>/dev/null || echo unknown lengths), not $*; remove its start-* and finetuned-*, or give another folder"
    fi
    echo "$*" >"$out/species"
    if [ ! -e "$from/done" ]; then
        say "for species, context $shortest: learn"
        learn "$from" "$shortest" $((longest + 2))
        touch "$from/done"
    fi
    for n; do
        classify "finetuned-$n" "$n" "$from" $((n > shortest ? bases / 3 : bases)) $((longest + 2))
        from=$out/finetuned-$n
    done
    [ ! -e "$out/context-$shortest/done" ] || classify "own-$shortest" "$shortest" "$out/context-$shortest" "$bases" $((shortest + 2))
}

ls "$folder"/*.fa.gz >/dev/null 2>&1 || usage_error "no .fa.gz in $folder; give the folder of the sequences"
if [ ! -e "$out/mammals.h5" ]; then
    say "import"
    table >"$out/mammals.tsv"
    run "$out/import.log" import -m "$out/mammals.tsv" -o "$out/mammals.h5" "$folder"/*.fa.gz
fi
for n in $contexts; do
    next_base "$n"
done
if [ ! -e "$out/markov.json" ]; then
    say "Markov models, order 0 to $orders"
    "$python" "$root/experiments/markov.py" -m "$out/mammals.tsv" --orders "$orders" -o "$out/markov.json" "$folder"/*.fa.gz >"$out/markov.log"
fi
all_species
say "done: $out"
picture=()
"$python" -c 'import matplotlib' 2>/dev/null && picture=(--picture "$out/length.png")
"$python" "$root/experiments/mammals_table.py" "$out" "${picture[@]}" | tee "$out/table.md"
