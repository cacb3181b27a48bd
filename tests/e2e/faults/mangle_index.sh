#!/bin/bash
# Damages saved vector indexes in every way of ../shared/hostile/mangle.py and sees that each is refused:
#     tests/e2e/faults/mangle_index.sh RUVLLM [N]      N random damages of each kind (20)
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
mangle=$root/../shared/hostile/mangle.py
ruvllm=$(realpath "$1")
n=${2:-20}
if [ ! -f "$mangle" ]; then
    echo "skipped: ../shared/hostile is not here"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$work" <<'PY'
import array, random, struct, sys
random.seed(1)
rows = [array.array("f", (random.gauss(0, 1) for _ in range(20))).tobytes() for _ in range(1500)]
for name, some in ("base", rows), ("query", rows[:3]):
    open(f"{sys.argv[1]}/{name}.fvecs", "wb").write(b"".join(struct.pack("<I", 20) + row for row in some))
open(f"{sys.argv[1]}/gt.ivecs", "wb").write(b"".join(struct.pack("<Ii", 1, i) for i in range(3)))
PY
status=0
for index in flat hnsw rabitq pq; do
    ann=("$ruvllm" bench ann --base "$work/base.fvecs" --queries "$work/query.fvecs" --truth "$work/gt.ivecs" -k 1 --ef 8 --index $index)
    "${ann[@]}" --saved "$work/$index.idx" > "$work/out"
    grep -q '"recall@10":1.0' "$work/out" || { echo "$index does not find its own rows"; status=1; }
    echo "$index"
    python3 "$mangle" "$work/$index.idx" --n "$n" -- "${ann[@]}" --saved {} || status=1
done
exit $status
