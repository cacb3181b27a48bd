#!/bin/bash
# Prefill and decode beside llama.cpp: bench/llm_vs_llamacpp.sh [MODEL.gguf]
#
# The two sides take turns on one machine, RUNS times, inside a lock and in a scheduler group of high weight, so that what
# else the machine does hits both. Medians and their ratio as JSON lines on stdout, one per test; talk on stderr.
# As root on Debian; the peer is Debian sid's llama.cpp in a chroot, made on the first run from the mirror apt uses.
#
# Without MODEL: a random model with the shapes of LFM2-350M Q4_K_M, written by ../shared/peers/llm/make_lfm2_gguf.py.
# Environment: OURS (build/release/ruvllm), THREADS (2), RUNS (5), PROMPT (512), GEN (128), DEPTH (0: tokens before both), CHROOT (/var/tmp/llama-sid),
# MIRROR, LOCK (/tmp/bench.lock).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
OURS=${OURS:-$here/build/release/ruvllm}
THREADS=${THREADS:-2} RUNS=${RUNS:-5} PROMPT=${PROMPT:-512} GEN=${GEN:-128} DEPTH=${DEPTH:-0}
CHROOT=${CHROOT:-/var/tmp/llama-sid} LOCK=${LOCK:-/tmp/bench.lock}
peers=$here/../shared/peers/llm
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
say() { echo "llm_vs_llamacpp: $*" >&2; }

[ -x "$OURS" ] || { say "no $OURS: build first (make), or set OURS"; exit 2; }

[ "$(id -u)" = 0 ] || { say "not root: llama.cpp is run in a chroot, $CHROOT"; exit 2; }
if [ ! -x "$CHROOT/usr/bin/llama-bench" ]; then
    say "making $CHROOT (once)"
    MIRROR=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)}
    command -v debootstrap > /dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; } >&2
    [ -e "$CHROOT/etc/debian_version" ] || debootstrap --variant=minbase sid "$CHROOT" "${MIRROR%/}" >&2
    printf '#!/bin/sh\nexit 101\n' > "$CHROOT/usr/sbin/policy-rc.d"
    chmod +x "$CHROOT/usr/sbin/policy-rc.d"
    # A mirror's snapshot may be older than its Valid-Until date; signatures are still checked.
    printf 'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\n' > "$CHROOT/etc/apt/apt.conf.d/99bench"
    cp /etc/resolv.conf "$CHROOT/etc/resolv.conf"
    chroot "$CHROOT" apt-get update -qq >&2
    chroot "$CHROOT" apt-get install -y -qq llama.cpp llama.cpp-tools-extra >&2
fi
mountpoint -q "$CHROOT/proc" || mount -t proc proc "$CHROOT/proc"

model=${1:-/var/tmp/350m-q4km.gguf}
if [ $# -eq 0 ] && [ ! -e "$model" ]; then
    say "writing $model"
    "$peers/make_lfm2_gguf.py" --preset 350m --dtype Q4_K_M --vocab "$peers/vocab-65536.json.gz" --out "$model" >&2
fi
[ -r "$model" ] || { say "cannot read $model"; exit 2; }
work=$(mktemp -d)
mkdir -p "$CHROOT/bench-model"
inside=/bench-model/$$-$(basename "$model") # of this run: another one may be waiting for the lock with the same model
trap 'rm -rf "$work" "$CHROOT$inside"' EXIT
rm -f "$CHROOT$inside"
ln "$model" "$CHROOT$inside" 2> /dev/null || cp "$model" "$CHROOT$inside"

# autogroup scheduling makes `nice` count only inside a session: the weight has to be that of the group
alone() { setsid -w bash -c 'echo -19 > /proc/self/autogroup 2> /dev/null; exec "$@"' _ "$@"; }
ours() { alone "$OURS" bench llm "$model" -p "$PROMPT" -n "$GEN" -d "$DEPTH" -c $((DEPTH + PROMPT + GEN + 64)) -t "$THREADS" -r 1; }
theirs() { alone chroot "$CHROOT" llama-bench -m "$inside" -p "$PROMPT" -n "$GEN" -d "$DEPTH" -t "$THREADS" -r 1 -o jsonl; }

say "$(basename "$model"), $THREADS threads, $RUNS turns; llama.cpp $(chroot "$CHROOT" dpkg-query -W -f '${Version}' llama.cpp)"
exec 9> "$LOCK"
flock 9
for run in $(seq "$RUNS"); do
    say "turn $run, load $(cut -d' ' -f1 /proc/loadavg)"
    ours >> "$work/ours"
    theirs >> "$work/theirs" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
done
flock -u 9

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sed -n 1p)
commit=$(git -C "$here" rev-parse --short HEAD 2> /dev/null || echo unknown)
python3 - "$work" "$PROMPT" "$GEN" "$DEPTH" "$THREADS" "$(basename "$model")" "$cpu" "$commit" << 'EOF'
import json, statistics, sys
work, prompt, gen, depth, threads, model, cpu, commit = sys.argv[1:]
lines = lambda name: [json.loads(s) for s in open(f"{work}/{name}") if s.startswith("{")]
ours = {t: [r["tokens_per_second"] for r in lines("ours") if r["test"].startswith(t)] for t in ("pp", "tg")}
theirs = {"pp": [r["avg_ts"] for r in lines("theirs") if r["n_gen"] == 0],
          "tg": [r["avg_ts"] for r in lines("theirs") if r["n_prompt"] == 0]}
for test, n in (("pp", prompt), ("tg", gen)):
    if n == "0":
        continue
    a, b = statistics.median(ours[test]), statistics.median(theirs[test])
    print(json.dumps({"test": test + n, "depth": int(depth), "model": model, "threads": int(threads), "ratio": round(a / b, 3),
                      "ours": round(a, 1), "ours_min": round(min(ours[test]), 1), "ours_max": round(max(ours[test]), 1),
                      "llamacpp": round(b, 1), "llamacpp_min": round(min(theirs[test]), 1),
                      "llamacpp_max": round(max(theirs[test]), 1), "turns": len(theirs[test]), "cpu": cpu, "commit": commit}))
EOF
