#!/usr/bin/env bash
# The whole pipeline on a phantom: raw sections to a report, in ./demo.
#
# Each step is one command, printed before it runs. Run again, it skips the steps that are done and goes on where it was
# stopped. To begin anew: make clean.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p demo/.done

# step NAME OUTPUT COMMAND...: run COMMAND, which makes OUTPUT (- where it adds to one), unless it is done.
#
# A step that finished leaves a file in demo/.done: its command, after a checksum of the file of the step before it. So
# a step is done while neither its command nor anything before it has changed. An output with another file is stale and
# removed; an output with none was begun by this very command, which resumes it.
chain=start
step() {
    local name=$1 output=$2 done=demo/.done/$1
    shift 2
    local key="$chain $*"
    if [ "$(head -n 1 "$done" 2>/dev/null)" = "$key" ] && { [ "$output" = - ] || [ -e "$output" ]; }; then
        echo "done before: $*"
    else
        if [ -e "$done" ] && [ "$output" != - ]; then rm -rf "$output"; fi
        rm -f "$done"
        echo
        echo "\$ $*"
        "$@" || {
            echo "demo: step $name stopped, see above. Run again to go on; make clean to begin anew." >&2
            exit 1
        }
        printf '%s\n%s\n' "$key" "$(date)" >"$done.tmp"
        mv "$done.tmp" "$done"
    fi
    chain=$(cksum <"$done")
}

started=$SECONDS

# 1. Three raw brains as a MERSCOPE would write them. A and B share a panel; C has another, with 40 genes in common.
step phantom demo/phantom \
    teramind-data phantom demo/phantom --genes 64 --shared 40 --blanks 4 --seed 2026

# 2. Raw sections to atlas stores, and the genes that all three measured.
for brain in A B C; do
    step "ingest-$brain" "demo/$brain.zarr" \
        teramind-data ingest "demo/phantom/raw/$brain" "demo/$brain.zarr"
done
step panel demo/shared.csv \
    teramind-data panel intersect demo/A.zarr demo/B.zarr demo/C.zarr --out demo/shared.csv

# 3. A brief fine-tune of the shipped phantom checkpoint on A and B. C is never trained on.
step train demo/run \
    teramind-model train --preset phantom --init phantom --atlas demo/A.zarr --atlas demo/B.zarr \
    --panel demo/shared.csv --steps 60 --out demo/run

# 4. The held-out brain C from its genes alone; and the same model on genes shuffled between tiles, the control.
step generate demo/C-generated.zarr \
    teramind-model generate --atlas demo/C.zarr --checkpoint demo/run --out demo/C-generated.zarr
step generate-shuffled demo/C-shuffled.zarr \
    teramind-model generate --atlas demo/C.zarr --checkpoint demo/run --shuffle-genes --out demo/C-shuffled.zarr

# 5. Where the model's genes attend to each other.
step attention - \
    teramind-model attention --atlas demo/C.zarr --checkpoint demo/run --pathway GLUT --out demo/C-generated.zarr

# 6. Real beside generated, with the control and the phantom's truth.
step report demo/report \
    teramind-eval report --real demo/C.zarr --generated demo/C-generated.zarr \
    --control shuffled=demo/C-shuffled.zarr --truth demo/phantom/truth/C --out demo/report

echo
echo "demo: $((SECONDS - started)) s. The report: $PWD/demo/report/report.html"
