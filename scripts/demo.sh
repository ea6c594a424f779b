#!/usr/bin/env bash
# The whole pipeline on a phantom: raw sections to a report, in ./demo.
#
# Each step is one command, printed before it runs. Run again, it goes on with the first step that is not done:
# a step that finished leaves its command line in demo/.done, and once a step runs, so do all after it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p demo/.done

stale=0 # becomes 1 with the first step that has to run

# step NAME OUTPUT KEEP|CLEAR COMMAND...: run COMMAND, which makes OUTPUT, unless that was done before.
# CLEAR removes what an interrupted run left of OUTPUT; KEEP leaves it, for commands that resume or add to it.
step() {
    local name=$1 output=$2 keep=$3 done=demo/.done/$1
    shift 3
    if [ "$stale" = 0 ] && [ -e "$output" ] && [ "$(cat "$done" 2>/dev/null)" = "$*" ]; then
        echo "done before: $*"
        return
    fi
    stale=1
    rm -f "$done"
    if [ "$keep" = CLEAR ]; then rm -rf "$output"; fi
    echo
    echo "\$ $*"
    "$@"
    echo "$*" >"$done"
}

started=$SECONDS

# 1. Three raw brains as a MERSCOPE would write them. A and B share a panel; C has another, with 40 genes in common.
step phantom demo/phantom CLEAR \
    teramind-data phantom demo/phantom --genes 64 --shared 40 --blanks 4 --seed 2026

# 2. Raw sections to atlas stores, and the genes that all three measured.
for brain in A B C; do
    step "ingest-$brain" "demo/$brain.zarr" CLEAR \
        teramind-data ingest "demo/phantom/raw/$brain" "demo/$brain.zarr"
done
step panel demo/shared.csv CLEAR \
    teramind-data panel intersect demo/A.zarr demo/B.zarr demo/C.zarr --out demo/shared.csv

# 3. A brief fine-tune of the shipped phantom checkpoint on A and B. C is never trained on.
step train demo/run KEEP \
    teramind-model train --preset phantom --init phantom --atlas demo/A.zarr --atlas demo/B.zarr \
    --panel demo/shared.csv --steps 60 --out demo/run

# 4. The held-out brain C from its genes alone; and the same model on genes shuffled between tiles, the control.
step generate demo/C-generated.zarr CLEAR \
    teramind-model generate --atlas demo/C.zarr --checkpoint demo/run --out demo/C-generated.zarr
step generate-shuffled demo/C-shuffled.zarr CLEAR \
    teramind-model generate --atlas demo/C.zarr --checkpoint demo/run --shuffle-genes --out demo/C-shuffled.zarr

# 5. Where the model's genes attend to each other.
step attention demo/C-generated.zarr KEEP \
    teramind-model attention --atlas demo/C.zarr --checkpoint demo/run --pathway GLUT --out demo/C-generated.zarr

# 6. Real beside generated, with the control and the phantom's truth.
step report demo/report CLEAR \
    teramind-eval report --real demo/C.zarr --generated demo/C-generated.zarr \
    --control shuffled=demo/C-shuffled.zarr --truth demo/phantom/truth/C --out demo/report

echo
echo "demo: $((SECONDS - started)) s. The report: $PWD/demo/report/report.html"
