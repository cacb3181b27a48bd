#!/bin/bash
# Damages saved vector indexes in every way of ../shared/hostile/mangle.py and sees that each is refused, and that a memory whose index is
# damaged answers as if it were not:
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

# find.sh DAMAGED KIND: a copy of a store with the damaged index in it, and what a search finds there
cat > "$work/find.sh" <<EOF
copy=\$(mktemp -d -p "$work")
cp -r "$work/store.\$2/." "\$copy"
cp "\$1" "\$copy/vectors/\$2.idx"
"$ruvllm" memory search "the wren in the orchard by the river" --mode vector -k 5 --json --data "\$copy" \\
    --set embedding.model=hash --set memory.index="\$2" 2> "\$copy/log"
rc=\$?
grep -E 'Sanitizer|runtime error' "\$copy/log"
rm -rf "\$copy"
exit \$rc
EOF
python3 - "$work" <<'PY'
import json, random, sys
random.seed(1)
words = "wren kiln copper river lantern orchard violin harbour granite saffron walnut meadow anvil ledger parcel thimble beacon marble".split()
with open(f"{sys.argv[1]}/rows.jsonl", "w") as f:
    for i in range(1500):
        f.write(json.dumps({"text": f"Note {i}: " + " ".join(random.choice(words) for _ in range(8))}) + "\n")
PY
for index in hnsw rabitq; do
    "$ruvllm" memory import "$work/rows.jsonl" --data "$work/store.$index" --set embedding.model=hash --set memory.index=$index > "$work/out" 2>&1
    [ -f "$work/store.$index/vectors/$index.idx" ] || { echo "no $index was saved"; status=1; continue; }
    echo "a store with $index"
    python3 "$mangle" "$work/store.$index/vectors/$index.idx" --n "$n" --allow-same --timeout 300 -- bash "$work/find.sh" {} $index || status=1
done
exit $status
