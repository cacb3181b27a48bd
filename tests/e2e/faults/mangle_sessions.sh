#!/bin/bash
# Damages saved conversations in every way of ../shared/hostile/mangle.py and sees that the next answer is the same to the bit:
#     tests/e2e/faults/mangle_sessions.sh PROGRAM [N]      PROGRAM is test_unit_engine_sessions; N random damages of each kind (20)
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
mangle=${MANGLE:-$root/../shared/hostile/mangle.py}
program=$(realpath "$1")
n=${2:-20}
if [ ! -f "$mangle" ]; then
    echo "skipped: ../shared/hostile is not here"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# go_on.sh TYPE DAMAGED: the next turn of the conversation, with the damaged file in its folder
cat > "$work/go_on.sh" <<EOF
folder=\$(mktemp -d -p "$work")
cp "\$2" "\$folder/0000000000000001.kv"
RV_DAMAGE_ROLE="go_on \$1 \$folder" "$program" 2> "\$folder.log"
rc=\$?
grep -E 'Sanitizer|runtime error' "\$folder.log"
grep -q '^0 tokens' "\$folder.log" || echo >> "$work/used"
rm -rf "\$folder" "\$folder.log"
exit \$rc
EOF
status=0
for type in f16 q8; do
    for turns in 1 2; do
        mkdir "$work/$type-$turns"
        RV_DAMAGE_ROLE="save $type $turns $work/$type-$turns" "$program"
    done
    echo "$type"
    rm -f "$work/used"
    python3 "$mangle" "$work/$type-2/"*.kv --old "$work/$type-1/"*.kv --n "$n" --allow-same -- bash "$work/go_on.sh" "$type" {} || status=1
    [ -e "$work/used" ] || { echo "$type: not even the sound file was read back"; status=1; }
done
exit $status
