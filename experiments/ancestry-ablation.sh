#!/usr/bin/env bash
# What each part of the ancestry model is worth: experiments/ancestry.yaml with one part changed at a time, three seeds each,
# every run with the same number of training tokens, judged on the same windows. Skips what is done, resumes what was cut.
# usage: experiments/ancestry-ablation.sh VCF MAP OUT [options of trials.sh] [key=value ...]
#   e.g. on two blocks: ... kg.vcf.gz kg.samples.tsv ablation --regions 11:1682390-3403060,16:79784157-80783998 --threads 2
. "$(dirname "$0")/trials.sh"

variants() { # name, changed keys, what the table says
    cat <<'END'
base||the whole recipe
mixer-none|model.mixer=none|no Hyena: blocks are their MLP alone
absent-none|data.absent=none|absent sites give no sums
head-pooled|model.head=pooled|pooled states and an MLP instead of the class-conditional head
real-people|data.sampling=stratified|real training people instead of matings
fpe-10|position.alpha=10|a row for 10 bp
fpe-100|position.alpha=100|a row for 100 bp
fpe-1000|position.alpha=1000|a row for 1000 bp
fpe-multi|position.encoding=fpe-multi|rows for 1, 10, 100 and 1000 bp, summed
study-scratch|objective=autoregressive model.head=pooled data.absent=none data.sampling=stratified|the study's model, from scratch
study|objective=autoregressive model.head=pooled data.absent=none data.sampling=stratified|the study's way: half of the steps next-SNP pretraining, half fine-tuning
END
}

own_option() { return 1; }
parse_options "$@"
known=$(variants | cut -d'|' -f1 | tr '\n' ' ')
for name in $wanted; do
    [[ " $known simple " == *" $name "* ]] || usage_error "--variants: $name is none of simple $known"
done
import_data data
row simple evaluate 'simple methods'
judge simple 1 evaluate "$out/data.h5" --baselines "${BASELINES:-nb,nb-absent,logistic}"
for seed in $seeds; do
    while IFS='|' read -r name keys text; do
        row "$name" evaluate "$text"
        [ "$name" = study ] && FROM_PRETRAIN=1 || FROM_PRETRAIN=0
        # shellcheck disable=SC2086 # keys are words
        trial "$name" "$seed" "$out/data.h5" $keys </dev/null
        judge "$name" "$seed" evaluate "$out/data.h5" --baselines nb-absent </dev/null
    done < <(variants)
done
finish
