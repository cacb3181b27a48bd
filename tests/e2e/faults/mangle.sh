#!/bin/bash
# Damages the database and a vector file of a store in every way of ../shared/hostile/mangle.py and sees that the program notices:
#     tests/e2e/faults/mangle.sh PROGRAM [N]      PROGRAM is test_fault_memory_damage; N random damages of each kind (20)
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
mangle=$root/../shared/hostile/mangle.py
program=$(realpath "$1")
n=${2:-20}
if [ ! -f "$mangle" ]; then
    echo "skipped: ../shared/hostile is not here"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
RV_DAMAGE_ROLE="fill $work/good" "$program"

# dump.sh DAMAGED NAME: a copy of the store with the damaged file in the place of NAME, and all that it holds. Log lines are
# left out: they carry the time.
cat > "$work/dump.sh" <<EOF
copy=\$(mktemp -d -p "$work")
cp -r "$work/good/." "\$copy"
cp "\$1" "\$copy/\$2"
RV_DAMAGE_ROLE="dump \$copy" "$program" 2> "\$copy/log"
rc=\$?
grep -E 'Sanitizer|runtime error' "\$copy/log"
rm -rf "\$copy"
exit \$rc
EOF
status=0
for name in ruvllm.db vectors/00000001.seg; do
    echo "$name"
    python3 "$mangle" "$work/good/$name" --n "$n" --allow-same -- bash "$work/dump.sh" {} "$name" || status=1
done
exit $status
