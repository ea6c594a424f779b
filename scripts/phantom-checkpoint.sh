#!/usr/bin/env bash
# Make the phantom checkpoint that teramind-model ships: brains, stores, training, export.
#
# Seventy minutes on one core of two, as measured; less on both. Stopped anywhere and started again, it goes on where it was: finished stores are kept,
# training resumes from its newest checkpoint. Everything but the result lies in build/phantom-checkpoint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SEEDS=${SEEDS:-"101 102 103 104"} # brains to learn from; the demo's seed (2026) must not be among them
STEPS=${STEPS:-3000}
GENES=64
SHARED=40
BLANKS=4
WORK=${WORK:-build/phantom-checkpoint}
OUT=packages/teramind-model/src/teramind_model/pretrained/phantom

for seed in $SEEDS; do
    if [ "$seed" = 2026 ]; then
        echo "phantom-checkpoint: seed 2026 belongs to the demo; choose others" >&2
        exit 2
    fi
done

atlases=()
stores=()
mkdir -p "$WORK"
for seed in $SEEDS; do
    raw=$WORK/raw-$seed
    if [ ! -e "$raw.done" ]; then
        rm -rf "$raw"
        teramind-data phantom "$raw" --genes "$GENES" --shared "$SHARED" --blanks "$BLANKS" --seed "$seed"
        touch "$raw.done"
    fi
    for brain in A B C; do
        store=$WORK/$seed-$brain.zarr
        if [ ! -e "$store.done" ]; then
            rm -rf "$store"
            teramind-data ingest "$raw/raw/$brain" "$store"
            touch "$store.done"
        fi
        atlases+=(--atlas "$store")
        stores+=("$store")
    done
done

if [ ! -e "$WORK/shared.csv" ]; then
    teramind-data panel intersect "${stores[@]}" --out "$WORK/shared.csv"
fi
teramind-model train --preset phantom "${atlases[@]}" --panel "$WORK/shared.csv" --steps "$STEPS" --out "$WORK/run"
teramind-model export "$WORK/run" "$OUT" --float16 --overwrite
du -sh "$OUT"
