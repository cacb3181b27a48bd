#!/bin/bash
# Vector indexes beside hnswlib, faiss and usearch: bench/ann.sh [SET...]      (default: lake100k emb384)
#
# Sets are those of ../shared/peers/vec/datasets.sh: lake100k lake100kood emb384 emb768 emb384c1 emb128_1m. All sides take turns on
# one machine, RUNS times, inside a lock and in a scheduler group of high weight. One thread asks one query at a time; a side's
# speed at recall@10 0.99 is interpolated between the breadths it was measured at, the best turn counts. A table on stdout,
# talk on stderr. As root on Debian; peers and data are made on the first run, from the mirror apt uses and npm.
#
# Environment: OURS (build/release/ruvllm), WORK (/var/tmp/ruvllm-ann, 3 GB), RUNS (2), RECALL (0.99), INDEXES ("hnsw rabitq"),
# PEERS ("hnswlib faiss usearch"), BUILD_THREADS (2), LOCK (/tmp/bench.lock).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
OURS=${OURS:-$here/build/release/ruvllm}
WORK=${WORK:-/var/tmp/ruvllm-ann} RUNS=${RUNS:-2} RECALL=${RECALL:-0.99} BUILD_THREADS=${BUILD_THREADS:-2}
INDEXES=${INDEXES-hnsw rabitq} PEERS=${PEERS-hnswlib faiss usearch} LOCK=${LOCK:-/tmp/bench.lock}
vec=$here/../shared/peers/vec
sets=${*:-lake100k emb384}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C OPENBLAS_NUM_THREADS=1
say() { echo "ann: $*" >&2; }

[ -x "$OURS" ] || { say "no $OURS: build first (make), or set OURS"; exit 2; }
[ -r "$vec/gen.c" ] || { say "no $vec: the peers' sources are not here"; exit 2; }
mkdir -p "$WORK"/{bin,data,npm,deb,apt/lists/partial,apt/cache/archives/partial}
native="-O3 -march=native -mprefer-vector-width=512"

# ---- the peers, built for this processor as build.sh there does ----

apt_lists() { # apt_lists NAME LINE: a list of its own, so that the system's stays as it is
    echo "$2" > "$WORK/apt/$1.list"
    printf 'Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "/nonexistent";\nDir::State::lists "%s/apt/lists";\nDir::Cache "%s/apt/cache";\n' \
        "$WORK/apt/$1.list" "$WORK" "$WORK" > "$WORK/apt/$1.conf"
    export APT_CONFIG=$WORK/apt/$1.conf
    apt-get update -qq >&2
}
mirror() { MIRROR=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)}; MIRROR=${MIRROR%/}; }
signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"

make_hnswlib() (
    mirror
    cd "$WORK/deb"
    apt_lists sid "deb $signed $MIRROR sid main"
    apt-get download -qq libhnswlib-dev >&2
    dpkg -x libhnswlib-dev_*.deb hnswlib
    g++ $native -std=c++17 -w -pthread -I hnswlib/usr/include "$vec/bench_hnswlib.cpp" -o "$WORK/bin/hnswlib"
)
make_faiss() (
    mirror
    apt-get install -y -qq --no-install-recommends libopenblas-dev >&2
    mkdir -p "$WORK/faiss/build" && cd "$WORK"
    apt_lists source "deb-src $signed $MIRROR bookworm main"
    apt-get source -qq --download-only faiss >&2
    tar xzf faiss_*.orig.tar.gz -C faiss --strip-components=1
    cd faiss/build
    cmake .. -DCMAKE_BUILD_TYPE=Release -DFAISS_ENABLE_GPU=OFF -DFAISS_ENABLE_PYTHON=OFF -DBUILD_TESTING=OFF \
        -DFAISS_OPT_LEVEL=avx2 -DBUILD_SHARED_LIBS=OFF -DCMAKE_CXX_FLAGS="-march=native -mprefer-vector-width=512" \
        -DCMAKE_CXX_FLAGS_RELEASE="-O3 -DNDEBUG" >&2
    make -j"$(nproc)" faiss_avx2 >&2
    g++ $native -std=c++17 -w -fopenmp -I .. "$vec/bench_faiss.cpp" faiss/libfaiss_avx2.a -lopenblas -llapack -o "$WORK/bin/faiss"
)
make_usearch() (
    apt-get install -y -qq --no-install-recommends clang-19 >&2
    cd "$WORK/npm"
    [ -d node_modules/usearch ] || { npm init -y && npm install --no-audit --no-fund --ignore-scripts usearch; } >&2
    u=node_modules/usearch
    flags="-DNK_TARGET_HASWELL=1 -DNK_TARGET_SKYLAKE=1 -DNK_TARGET_ICELAKE=1 -DNK_TARGET_GENOA=1 -DNK_TARGET_TURIN=1 \
        -DNK_NATIVE_F16=0 -DNK_NATIVE_BF16=0 -DNK_DYNAMIC_DISPATCH=1"
    for c in "$u"/numkong/c/*.c; do
        clang-19 -std=c11 -O3 -c -w $flags -I$u/numkong/include -I$u/numkong/c "$c" -o "nk_$(basename "$c" .c).o"
    done
    clang++-19 -O3 -march=native -w -std=c++17 -pthread -DUSEARCH_USE_NUMKONG=1 -DNK_DYNAMIC_DISPATCH=1 -DNK_NATIVE_F16=0 \
        -DNK_NATIVE_BF16=0 -DUSEARCH_USE_OPENMP=0 -I$u/include -I$u/numkong/include "$vec/bench_usearch.cpp" nk_*.o -o "$WORK/bin/usearch"
)
for peer in $PEERS; do
    [ -x "$WORK/bin/$peer" ] || { say "making $peer (once)"; "make_$peer"; }
done
[ -x "$WORK/bin/gen" ] || gcc $native -ffast-math -pthread "$vec/gen.c" -o "$WORK/bin/gen" -lm
for set in $sets; do
    read -r _ kind n dim seed option < <(sed -n "s/^one $set  *\([a-z]*\)  *\([0-9]*\) *\([0-9]*\) *\([0-9]*\) *\(.*\)/one \1 \2 \3 \4 \5/p" "$vec/datasets.sh")
    [ -n "$kind" ] || { say "no set $set in $vec/datasets.sh"; exit 2; }
    [ -f "$WORK/data/$set/meta.txt" ] || { say "making $set (once)"; "$WORK/bin/gen" "$kind" "$WORK/data/$set" "$n" "$dim" 1000 "$seed" $option >&2; }
done

# ---- turns ----

res=$(mktemp -d "$WORK/run.XXXXXX")
trap 'rm -rf "$res"' EXIT
alone() { setsid -w bash -c 'echo -19 > /proc/self/autogroup 2> /dev/null; exec "$@"' _ "$@"; }
exec 9> "$LOCK"
flock 9
for set in $sets; do
    d=$WORK/data/$set
    for run in $(seq "$RUNS"); do
        say "$set, turn $run, load $(cut -d' ' -f1 /proc/loadavg)"
        for index in $INDEXES; do
            alone "$OURS" bench ann --base "$d/base.fvecs" --queries "$d/query.fvecs" --truth "$d/gt.ivecs" --index "$index" \
                --threads 1 >> "$res/$set.ours-$index"
        done
        for peer in $PEERS; do
            case $peer in
            hnswlib) alone "$WORK/bin/hnswlib" "$d" 1 "$res/idx" ;;
            faiss) alone "$WORK/bin/faiss" "$d" hnsw "$res/idx" ;;
            usearch) alone "$WORK/bin/usearch" "$d" f32 1 "$res/idx" ;;
            esac >> "$res/$set.$peer"
            rm -f "$res/idx"
        done
    done
    if [ "$BUILD_THREADS" -gt 1 ]; then # the same work by several threads
        alone "$OURS" bench ann --base "$d/base.fvecs" --queries "$d/query.fvecs" --truth "$d/gt.ivecs" --index hnsw --ef 64 \
            --threads "$BUILD_THREADS" > "$res/$set.build-ours-hnsw"
        [[ " $PEERS " != *" hnswlib "* ]] || BUILD_ONLY=1 alone "$WORK/bin/hnswlib" "$d" "$BUILD_THREADS" "$res/idx" > "$res/$set.build-hnswlib"
    fi
done
flock -u 9

# ---- the table ----

RECALL=$RECALL BUILD_THREADS=$BUILD_THREADS python3 - "$res" $sets <<'PY'
import json, math, os, sys
res, want, threads = sys.argv[1], float(os.environ["RECALL"]), os.environ["BUILD_THREADS"]

def points(path):
    """recall, queries per CPU second and breadth of one thread; seconds and CPU seconds of building"""
    found, build = [], None
    for line in open(path):
        if line.startswith("{"):
            row = json.loads(line)
            found.append((row["recall@10"], row["qps"], row["ef"]))
            build = min(build or (math.inf, 0), (row["build_s"], row["build_cpu_s"]))
        elif line.startswith(("R\tsearch", "R\tbuild")):
            cell = line.rstrip("\n").split("\t")
            row = dict(c.split("=", 1) for c in cell[5:])
            if cell[1] == "build":
                build = min(build or (math.inf, 0), (float(row["sec"]), float(row["cpu_s"])))
            elif row["threads"] == "1" and row["k"] == "10" and "SQ8" not in cell[4]:
                found.append((float(row["recall"]), float(row["cqps"]), int(row["ef"])))
    return found, build

def speed_at(found):
    best = {}
    for recall, qps, ef in found:
        best[ef] = max(best.get(ef, (0, 0)), (recall, qps), key=lambda p: p[1])
    curve = sorted(best.values())
    if not curve or curve[-1][0] < want:
        return None
    if curve[0][0] >= want:
        return curve[0][1]
    for (r0, q0), (r1, q1) in zip(curve, curve[1:]):
        if r0 < want <= r1:
            part = (want - r0) / (r1 - r0)
            return math.exp(math.log(q0) + part * (math.log(q1) - math.log(q0)))

print(f"| set | side | QPS at recall@10 {want:g} | hnsw / it | rabitq / it | build, CPU s | build with {threads} threads, s |")
print("|---|---|---|---|---|---|---|")
for name in sys.argv[2:]:
    sides = {f[len(name) + 1:]: points(f"{res}/{f}") for f in sorted(os.listdir(res)) if f.startswith(name + ".")}
    speed = {s: speed_at(found) for s, (found, _) in sides.items() if not s.startswith("build-")}
    for side in sorted(speed, key=lambda s: -(speed[s] or 0)):
        ratio = [f"{speed[o] / speed[side]:.2f}" if speed.get(o) and speed[side] else "-" for o in ("ours-hnsw", "ours-rabitq")]
        build, many = sides[side][1], sides.get("build-" + side, (0, None))[1]
        print(f"| {name} | {side} | {speed[side] or 0:,.0f} | {ratio[0]} | {ratio[1]} | "
              f"{build[1]:.1f} | {many[0]:.1f} |" if many else
              f"| {name} | {side} | {speed[side] or 0:,.0f} | {ratio[0]} | {ratio[1]} | {build[1]:.1f} | - |")
PY
