# Sourced by the ancestry scripts: options, imports, and trials that are skipped where they are done and resumed where they
# were cut. A trial is OUT/VARIANT/seed-S: run (and pretrain), evaluations beside it, log.txt, trained.
# usage: CALLER VCF MAP OUT [--regions CHR:FROM-TO,..] [--variants "A B"] [--seeds "1 2 3"] [--steps N] [--contexts 128,256]
#        [--split test] [--threads N] [--config FILE] [--dry-run] [key=value ...]
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"
regions='' wanted='' seeds='1 2 3' steps=800 contexts=128 split=test threads=0 config=$root/experiments/ancestry.yaml
failures=0 done_now=0
declare -a overrides=() positional=()

parse_options() { # into the variables above; a script's own options come first, through own_option
    while [ $# -gt 0 ]; do
        case $1 in
            -r | --regions) regions=${2:?} ;;
            --variants) wanted=${2:?} ;;
            --seeds) seeds=${2:?} ;;
            --steps) steps=${2:?} ;;
            --contexts) contexts=${2:?} ;;
            --split) split=${2:?} ;;
            --threads) threads=${2:?} ;;
            --config) config=$(realpath "${2:?}") ;;
            --dry-run) dry=1; shift; continue ;;
            --*) own_option "$1" "${2:-}" || usage_error "$1 is not an option; see the head of the script" ;;
            *=*) overrides+=("$1"); shift; continue ;;
            *) positional+=("$1"); shift; continue ;;
        esac
        shift 2
    done
    [ ${#positional[@]} -eq 3 ] || usage_error "${#positional[@]} names instead of a VCF, a sample map and an output folder"
    vcf=$(realpath "${positional[0]}") map=$(realpath "${positional[1]}") out=${positional[2]}
    mkdir -p "$out"
    out=$(realpath "$out")
}

import_data() { # NAME [options of import]: OUT/NAME.h5
    local name=$1
    shift
    [ -e "$out/$name.h5" ] && return 0
    say "import $name"
    run "$out/$name.log" import -m "$map" -o "$out/$name.h5" ${regions:+-r "$regions"} "$@" "$vcf"
}

is_wanted() { [ -z "$wanted" ] || [[ " $wanted " == *" $1 "* ]]; }

row() { # VARIANT EVALUATION TEXT: a row of the table, in this order
    grep -qsP "^$1\t$2\t" "$out/rows.tsv" || printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$out/rows.tsv"
}

trial() { # VARIANT SEED DATA [key=value ...]: finetuned from scratch; with FROM_PRETRAIN=1 half of the steps pretrain
    local variant=$1 seed=$2 data=$3 folder=$out/$1/seed-$2 from=none tune=$steps
    shift 3
    is_wanted "$variant" || return 0
    mkdir -p "$folder"
    [ -e "$folder/trained" ] && return 0
    say "train $variant, seed $seed"
    local keys=("data.path=$data" "seed=$seed" "${overrides[@]}" "$@")
    local start=$SECONDS
    if [ "${FROM_PRETRAIN:-0}" = 1 ]; then
        tune=$((steps - steps / 2)) from=$folder/pretrain
        train pretrain "$folder/pretrain" "$folder/log.txt" "${keys[@]}" "train.steps=$((steps / 2))" || { failures=$((failures + 1)); return 0; }
    fi
    train finetune "$folder/run" "$folder/log.txt" --from "$from" "${keys[@]}" "finetune.steps=$tune" || { failures=$((failures + 1)); return 0; }
    [ "$dry" = 1 ] && return 0
    touch "$folder/trained"
    done_now=$((done_now + 1))
    say "  trained in $((SECONDS - start)) s"
}

halves() { # 128,256 -> 64,128,256: a window of half the carried sites where half of the sites are missing spans as much
    local all n
    all=$(for n in ${contexts//,/ }; do [ "$n" -lt 4 ] || echo $((n / 2)); echo "$n"; done | sort -nu)
    echo $all | tr ' ' ','
}

judge() { # VARIANT SEED NAME DATA [options of evaluate]: OUT/VARIANT/seed-SEED/NAME; CONTEXTS in place of --contexts
    local variant=$1 seed=$2 name=$3 data=$4 folder=$out/$1/seed-$2
    shift 4
    is_wanted "$variant" || return 0
    { [ -e "$folder/trained" ] || [ "$variant" = simple ] || [ "$dry" = 1 ]; } || return 0
    [ -e "$folder/$name/evaluate.json" ] && return 0
    mkdir -p "$folder"
    local model=$folder/run
    [ "$variant" = simple ] && model=none
    say "evaluate $variant, seed $seed: $name"
    run "$folder/log.txt" evaluate "$model" "$data" -o "$folder/$name" --force --split "$split" --context "${CONTEXTS:-$contexts}" --threads "$threads" "$@" || failures=$((failures + 1))
}

finish() { # the table; a failed trial is said and makes the script fail
    [ "$dry" = 1 ] && return 0
    "$python" "$root/experiments/collect.py" "$out" -o "$out/table"
    [ "$failures" = 0 ] || { echo "crocuta: error: $out: $failures trials or evaluations failed; see log.txt in their folders, run the script again" >&2; exit 1; }
}
