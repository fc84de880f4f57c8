#!/usr/bin/env bash
# The main result: experiments/ancestry.yaml on people of a VCF, three seeds, beside every simple method on the very same windows.
# With --phased also the model of both haplotypes, and the methods that read phase. Skips what is done, resumes what was cut.
# usage: experiments/ancestry.sh VCF MAP OUT [--phased] [options of trials.sh] [key=value ...]
. "$(dirname "$0")/trials.sh"
steps=3200 contexts=128,256,512,1024 phased=0

own_option() { return 1; }

words=()
for word in "$@"; do [ "$word" = --phased ] && phased=1 || words+=("$word"); done
parse_options "${words[@]}"
import_data data
simple=${BASELINES:-majority,density,nb,nb-absent,logistic,ngram,pair}
[ "$phased" = 1 ] && simple=$simple,haplotype,li-stephens
data=$out/data.h5

row simple evaluate 'simple methods, unphased'
row base evaluate 'the ancestry model, unphased'
[ "$phased" = 1 ] && row phased evaluate 'the ancestry model of two haplotypes, phased'
judge simple 1 evaluate "$data" --baselines "$simple"
for seed in $seeds; do
    trial base "$seed" "$data"
    judge base "$seed" evaluate "$data" --baselines nb,nb-absent,logistic,ngram,pair
    [ "$phased" = 1 ] || continue
    # A haplotype carries about three quarters of the sites that both do together.
    length=(data.seq_len=96)
    [[ " ${overrides[*]} " == *" data.seq_len="* ]] && length=()
    trial phased "$seed" "$data" data.alleles=both "${length[@]}"
    judge phased "$seed" evaluate "$data" --baselines majority
done
finish
