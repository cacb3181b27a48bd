#!/bin/bash
# Many clients at once, beside llama-server: bench/server_vs_llamaserver.sh [MODEL.gguf]
#
# CLIENTS clients send one streamed completion each at the same moment: IN random token ids of their own, OUT tokens. Both
# servers run all the time and take turns, RUNS times, inside a lock and in a scheduler group of high weight. Medians and
# their ratios as one JSON line on stdout; talk on stderr. The peer and its chroot are those of bench/llm_vs_llamacpp.sh,
# which makes them.
#
# Environment: OURS (build/release/ruvllm), THREADS (2), RUNS (3), CLIENTS (8), IN (256), OUT (64),
# CHROOT (/var/tmp/llama-sid), LOCK (/tmp/bench.lock).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
OURS=${OURS:-$here/build/release/ruvllm}
THREADS=${THREADS:-2} RUNS=${RUNS:-3} CLIENTS=${CLIENTS:-8} IN=${IN:-256} OUT=${OUT:-64}
CHROOT=${CHROOT:-/var/tmp/llama-sid} LOCK=${LOCK:-/tmp/bench.lock}
model=${1:-/var/tmp/350m-q4km.gguf}
say() { echo "server_vs_llamaserver: $*" >&2; }

[ -x "$OURS" ] || { say "no $OURS: build first (make), or set OURS"; exit 2; }
[ -x "$CHROOT/usr/bin/llama-server" ] && [ -r "$model" ] || {
    say "no llama-server in $CHROOT or no $model: run bench/llm_vs_llamacpp.sh once"
    exit 2
}
mountpoint -q "$CHROOT/proc" || mount -t proc proc "$CHROOT/proc"
work=$(mktemp -d)
mkdir -p "$CHROOT/bench-model"
inside=/bench-model/$$-$(basename "$model")
stop() {
    for pid in "$work"/*.pid; do kill "$(cat "$pid")" 2> /dev/null || true; done
    wait || true
    rm -rf "$work" "$CHROOT$inside"
}
trap stop EXIT
rm -f "$CHROOT$inside"
ln "$model" "$CHROOT$inside" 2> /dev/null || cp "$model" "$CHROOT$inside"

exec 9> "$LOCK"
flock 9
# autogroup scheduling makes `nice` count only inside a session: the weight has to be that of the group
alone() { setsid -w bash -c 'echo $$ > "$0"; echo -19 > /proc/self/autogroup 2> /dev/null; exec "$@"' "$@"; }
room=$((IN + OUT + 32))
alone "$work/ours.pid" "$OURS" serve --data "$work/data" --port 18471 --threads "$THREADS" --ctx $((room > 1024 ? room : 1024)) \
    --model "$model" --set "system.max_concurrent_requests=$CLIENTS" > "$work/ours.log" 2>&1 9>&- &
alone "$work/theirs.pid" chroot "$CHROOT" llama-server -m "$inside" --host 127.0.0.1 --port 18472 -t "$THREADS" -np "$CLIENTS" \
    -c $((CLIENTS * room)) --no-webui > "$work/theirs.log" 2>&1 9>&- &

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sed -n 1p)
commit=$(git -C "$here" rev-parse --short HEAD 2> /dev/null || echo unknown)
cat > "$work/clients.py" << 'EOF'
import http.client, json, random, statistics, sys, threading, time

runs, clients, n_in, n_out = map(int, sys.argv[1:5])
model, threads, cpu, commit = sys.argv[5:]
ports = {"ours": 18471, "llamaserver": 18472}
draw = random.Random(1)


def ask(port, prompt, gate, out):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.connect()
    gate.wait()
    body = {"prompt": prompt, "max_tokens": n_out, "stream": True, "temperature": 1, "seed": 1,
            "stream_options": {"include_usage": True}}
    start = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"port {port}: {answer.status} {answer.read()[:300]}")
    first, tokens = None, 0
    for line in answer:
        if line.startswith(b"data: {"):
            data = json.loads(line[6:])
            if data.get("choices") and first is None:
                first = time.monotonic() - start
            tokens = (data.get("usage") or {}).get("completion_tokens", tokens)
    out.append((first, start, time.monotonic(), tokens))


def round_of(port, n):
    gate, out = threading.Barrier(n), []
    prompts = [[draw.randrange(1000, 60000) for _ in range(n_in)] for _ in range(n)]
    tasks = [threading.Thread(target=ask, args=(port, p, gate, out)) for p in prompts]
    [t.start() for t in tasks], [t.join() for t in tasks]
    assert len(out) == n, "a client failed"
    span = max(o[2] for o in out) - min(o[1] for o in out)
    return sum(o[3] for o in out) / span, statistics.median(o[0] for o in out) * 1e3, sum(o[3] for o in out)


for port in ports.values():
    for _ in range(600):
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
            c.request("GET", "/health")
            if c.getresponse().status == 200:
                break
        except OSError:
            pass
        time.sleep(0.2)
    round_of(port, 1)
got = {who: [] for who in ports}
for _ in range(runs):
    for who, port in ports.items():
        got[who].append(round_of(port, clients))
        print(who, "%.1f tokens/s, first token after %.0f ms, %d tokens" % got[who][-1], file=sys.stderr)
m = {who: [statistics.median(x[i] for x in g) for i in (0, 1)] for who, g in got.items()}
(a, fa), (b, fb) = m["ours"], m["llamaserver"]
print(json.dumps({"test": f"{clients} clients, {n_in} in, {n_out} out", "model": model, "threads": int(threads),
                  "ratio": round(a / b, 3), "ours": round(a, 1), "llamaserver": round(b, 1),
                  "first_token_ratio": round(fa / fb, 3), "first_token_ms": round(fa), "llamaserver_first_token_ms": round(fb),
                  "turns": runs, "cpu": cpu, "commit": commit}))
EOF
say "$(basename "$model"), $THREADS threads, $RUNS turns, load $(cut -d' ' -f1 /proc/loadavg)"
python3 "$work/clients.py" "$RUNS" "$CLIENTS" "$IN" "$OUT" "$(basename "$model")" "$THREADS" "$cpu" "$commit" || {
    tail -n 5 "$work/ours.log" "$work/theirs.log" >&2
    exit 1
}
