#!/usr/bin/env bash
# How far the ancestry model can be trusted: fewer training people, half of the sites missing, genotypes wrong, one block
# held out of training, populations instead of superpopulations. Skips what is done, resumes what was cut.
# usage: experiments/ancestry-robustness.sh VCF MAP OUT [--held-out CHR:FROM-TO] [--people "100 300 800"] [options of trials.sh]
. "$(dirname "$0")/trials.sh"
held_out='' people='100 300 800'

own_option() {
    case $1 in
        --held-out) held_out=$2 ;;
        --people) people=$2 ;;
        *) return 1 ;;
    esac
}

parse_options "$@"
import_data data
import_data populations --label population
simple=${BASELINES:-nb,nb-absent,logistic}
data=$out/data.h5

row simple evaluate 'simple methods'
row simple missing-50 'simple methods, half of the sites missing at test time (N SNPs span what 2 N did)'
row simple wrong-1 'simple methods, 1 % of the genotypes wrong at test time'
row simple populations 'simple methods, populations'
judge simple 1 evaluate "$data" --baselines "$simple"
CONTEXTS=$(halves) judge simple 1 missing-50 "$data" --baselines "$simple" --missing 0.5
judge simple 1 wrong-1 "$data" --baselines "$simple" --wrong 0.01
judge simple 1 populations "$out/populations.h5" --baselines "$simple"
row base evaluate 'all training people'
row base missing-50 'half of the sites missing at test time (N SNPs span what 2 N did)'
row base wrong-1 '1 % of the genotypes wrong at test time'
row base missing-50-wrong-1 'half missing and 1 % wrong (N SNPs span what 2 N did)'
if [ -n "$held_out" ]; then
    row base block 'the block alone, trained on it'
    row held-out block 'the block alone, never trained on'
    row held-out others 'the other blocks of that model'
    row simple block 'simple methods, the block alone (fitted on it)'
    judge simple 1 block "$data" --baselines "$simple" -r "$held_out"
fi
for n in $people; do row "people-$n" evaluate "$n training people"; done
row populations evaluate 'populations instead of superpopulations'

for seed in $seeds; do
    trial base "$seed" "$data"
    judge base "$seed" evaluate "$data" --baselines nb-absent
    # The same seed of the changes for all models: they are judged on the same genotypes.
    CONTEXTS=$(halves) judge base "$seed" missing-50 "$data" --baselines nb-absent --missing 0.5
    judge base "$seed" wrong-1 "$data" --baselines nb-absent --wrong 0.01
    CONTEXTS=$(halves) judge base "$seed" missing-50-wrong-1 "$data" --baselines nb-absent --missing 0.5 --wrong 0.01
    if [ -n "$held_out" ]; then
        judge base "$seed" block "$data" --baselines nb-absent -r "$held_out"
        trial held-out "$seed" "$data" "data.exclude=$held_out"
        judge held-out "$seed" block "$data" --baselines nb-absent -r "$held_out"
        judge held-out "$seed" others "$data" --baselines nb-absent --exclude-regions "$held_out"
    fi
    for n in $people; do
        trial "people-$n" "$seed" "$data" "data.train_people=$n"
        judge "people-$n" "$seed" evaluate "$data" --baselines nb-absent,logistic
    done
    trial populations "$seed" "$out/populations.h5"
    judge populations "$seed" evaluate "$out/populations.h5" --baselines nb-absent
done
finish
