#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Configuration as the program uses it, and what the server refuses to start with.

setup() {
    : "${RUVLLM:=$BATS_TEST_DIRNAME/../../build/release/ruvllm}"
    root=$BATS_TEST_DIRNAME/../..
    home=$(mktemp -d "$BATS_TMPDIR/ruvllm-config-XXXXXX")
    for name in $(compgen -e | grep '^RUVLLM_'); do
        unset "$name"
    done
    unset XDG_CONFIG_HOME XDG_DATA_HOME
    export HOME=$home RUVLLM_DATA=$home/data RUVLLM_MODELS=$home/none
    server=''
}

teardown() {
    if [ -n "$server" ]; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    ! mountpoint -q "$home/small" || umount "$home/small"
    rm -rf "$home"
}

# start ARGS...: a server; its address in $base, its process in $server, its stderr in $home/log.
start() {
    : >"$home/log"
    "$RUVLLM" serve "$@" 2>"$home/log" >/dev/null 3>&- &
    server=$!
    for _ in $(seq 1200); do
        base=$(sed -n 's|^ *API *\(http://[^ ]*\)/v1.*|\1|p' "$home/log")
        [ -n "$base" ] && return
        kill -0 "$server" || break
        sleep 0.05
    done
    cat "$home/log"
    return 1
}

# stops SIGNAL: the server ends by itself after it, with 0.
stops() {
    kill -"$1" "$server"
    local code=0
    wait "$server" || code=$?
    server=''
    [ "$code" -eq 0 ]
}

@test "the shipped profiles pass config check" {
    for profile in edge server-cpu server-gpu; do
        "$RUVLLM" config check "$root/config/$profile.toml"
    done
}

@test "a store made with the defaults opens with every shipped profile" {
    export RUVLLM_MODELS=$root/models
    "$RUVLLM" memory add "The boat is blue." >/dev/null
    for profile in edge server-cpu server-gpu; do
        "$RUVLLM" --config "$root/config/$profile.toml" memory search --json boat | jq -e '.id == 1'
    done
}

@test "the hostile corpus is judged as its manifest says" {
    maker=$root/../shared/hostile/make_hostile_toml.py
    [ -f "$maker" ] || skip "../shared/hostile is not here"
    python3 "$maker" gen "$home/corpus"
    run python3 "$maker" check "$home/corpus" "$RUVLLM" config check '{}'
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "a mistake names file, line, key and what is allowed; exit code 2" {
    printf '[server]\nport = 80800\n' >"$home/bad.toml"
    run --separate-stderr "$RUVLLM" serve --config "$home/bad.toml"
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"bad.toml:2: server.port: found 80800, allowed is a whole number 1 to 65535"* ]]
}

@test "config check says what is named and is not there" {
    export RUVLLM_MODELS=$root/models
    printf '[tiers]\n350m = "nosuch.gguf"\n' >"$home/file.toml"
    printf '[inference]\nmodel = "700"\n' >"$home/name.toml"
    printf '[server]\napi_keys_file = "none"\n' >"$home/keys.toml"
    for what in file:nosuch.gguf 'name:"700"' keys:none; do
        run --separate-stderr "$RUVLLM" config check "$home/${what%%:*}.toml"
        [ "$status" -eq 0 ]
        [[ "$output" == *"nothing starts with it here: "*"${what#*:}"* ]]
        "$RUVLLM" config check --json "$home/${what%%:*}.toml" | jq -e '.ok and (.starts | not) and .why'
    done
    echo >"$home/empty.toml"
    [ "$("$RUVLLM" config check "$home/empty.toml")" = fine ]
    [ ! -e "$RUVLLM_DATA" ]
}

@test "a tier with a dot and without quotes gets a hint" {
    printf '[tiers]\n1.2b = "x.gguf"\n' >"$home/dot.toml"
    run --separate-stderr "$RUVLLM" config check "$home/dot.toml"
    [ "$status" -eq 2 ]
    [[ "$stderr" == *'"1.2b" = '* ]]
}

@test "config show says where each value comes from" {
    mkdir -p "$home/data"
    printf '[server]\nmax_queue = 7\n' >"$home/data/ruvllm.toml"
    RUVLLM_INFERENCE_THREADS=3 run "$RUVLLM" config show --origin --set server.port=9000
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"$home/data/ruvllm.toml:2"* ]]
    [[ "$output" == *"RUVLLM_INFERENCE_THREADS"* ]]
    [[ "$output" == *"--set"* ]]
    [[ "$output" == *"built-in"* ]]
}

@test "config show has every key once" {
    "$RUVLLM" config show >"$home/keys"
    [ -z "$(sed 's/ = .*//' "$home/keys" | sort | uniq -d)" ]
    grep -q '^tiers.1.2b = ' "$home/keys"
}

@test "config show marks what is not used yet" {
    run "$RUVLLM" config show
    [ "$status" -eq 0 ]
    [[ "$(grep -w tls_cert <<<"$output")" == *"not used yet"* ]]
    [[ "$(grep -w max_queue <<<"$output")" != *"not used yet"* ]]
}

@test "the server listens on this machine only, unless told so" {
    run --separate-stderr timeout 60 "$RUVLLM" serve --listen 0.0.0.0 --port 0
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"server.listen is 0.0.0.0"*"--insecure"* ]]
    run --separate-stderr timeout 60 "$RUVLLM" serve --listen :: --port 0
    [ "$status" -eq 2 ]
    start --listen 0.0.0.0 --port 0 --insecure
    curl -sSf "http://127.0.0.1:${base##*:}/v1/metrics" >/dev/null
    stops TERM
}

@test "the server does not start with protection that it does not have" {
    for key in tls_cert tls_key; do
        run --separate-stderr timeout 60 "$RUVLLM" serve --port 0 --set "server.$key=/some/file"
        [ "$status" -eq 2 ]
        [[ "$stderr" == *"server.$key is set"* ]]
    done
}

@test "with API keys a request needs one, and feedback the one of its request" {
    printf '# ours\nanna anna-0123456789abcdef\nbert bert-0123456789abcdef\n' >"$home/keys"
    chmod 644 "$home/keys"
    run --separate-stderr timeout 60 "$RUVLLM" serve --port 0 --set "server.api_keys_file=$home/keys"
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"$home/keys"*"chmod 600"* ]]
    chmod 600 "$home/keys"
    start --listen 0.0.0.0 --port 0 --set "server.api_keys_file=$home/keys"
    local url="http://127.0.0.1:${base##*:}/v1"
    grep -q "curl -s -H 'Authorization: Bearer YOUR_KEY' http" "$home/log"
    [ "$(curl -s -o /dev/null -w '%{http_code}' "$url/health")" != 401 ]
    for with in "X: none" "Authorization: Bearer wrong" "Authorization: Basic anna-0123456789abcdef"; do
        [ "$(curl -s -o /dev/null -w '%{http_code}' -H "$with" "$url/models")" = 401 ]
        [ "$(curl -s -o /dev/null -w '%{http_code}' -H "$with" "$url/nothing")" = 401 ]
    done
    exec 9<>"/dev/tcp/127.0.0.1/${base##*:}" # no byte of a body is waited for
    printf 'POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n' >&9
    read -t 10 -r line <&9
    exec 9>&-
    [[ "$line" == "HTTP/1.1 401 "* ]]
    run "$RUVLLM" ps --port "${base##*:}"
    [ "$status" -ne 0 ]
    [[ "$output" == *"asks for an API key"*RUVLLM_API_KEY* ]]
    RUVLLM_API_KEY=wrong run "$RUVLLM" ps --port "${base##*:}"
    [ "$status" -ne 0 ]
    [[ "$output" == *"does not know the key"* ]]
    RUVLLM_API_KEY=anna-0123456789abcdef "$RUVLLM" ps --port "${base##*:}"
    [ "$(curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer anna-0123456789abcdef' "$url/models")" = 200 ]
    stops TERM
}

@test "a port in use is one sentence" {
    start --port 0
    run --separate-stderr timeout 60 "$RUVLLM" serve --port "${base##*:}" --data "$home/other"
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"${base##*:}"*"in use"* ]]
    [ "$(grep -c . <<<"$stderr")" -eq 1 ]
    stops TERM
}

@test "a data folder in use is one sentence with the process that has it" {
    start --port 0
    run --separate-stderr timeout 60 "$RUVLLM" serve --port 0
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"process $server, a server that takes adds, queries and feedback over HTTP at $base;"* ]]
    [ "$(grep -c . <<<"$stderr")" -eq 1 ]
    run --separate-stderr "$RUVLLM" memory add "The boat is blue."
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"$base"* ]]
    stops INT
    "$RUVLLM" memory add "The boat is blue."
}

# note TEXT: the status with which it is remembered
note() {
    curl -s -o "$home/answer" -w '%{http_code}' "$base/v1/memories" -d "{\"text\": \"$1\"}"
}

@test "a full disk is 507, reading goes on, and writing works again once there is room" {
    mkdir "$home/small"
    mount -t tmpfs -o size=24m tmpfs "$home/small" 2>/dev/null || skip "mounting is not allowed here"
    start --port 0 --data "$home/small/data"
    [ "$(note "the boat lies behind the mill")" = 201 ]
    cat /dev/zero >"$home/small/ballast" 2>/dev/null || true
    truncate -s -600K "$home/small/ballast"
    for i in $(seq 2000); do
        status=$(note "note $i of a disk that becomes full")
        [ "$status" = 201 ] || break
    done
    [ "$status" = 507 ]
    grep -q '"the disk of the server is full' "$home/answer"
    [ "$(note "and once more")" = 507 ]
    curl -sf "$base/v1/memories/search" -d '{"query": "where is the boat", "k": 1}' | grep -q "behind the mill"
    rm "$home/small/ballast"
    [ "$(note "there is room again")" = 201 ]
    stops TERM
    "$RUVLLM" memory check --data "$home/small/data"
    [ "$("$RUVLLM" memory search "where is the boat" --data "$home/small/data" -k 1 --json | jq -r .text)" = "the boat lies behind the mill" ]
}

@test "a missing model and a model as URL are refused by key" {
    run --separate-stderr timeout 60 "$RUVLLM" serve --port 0 --set tiers.350m=/nowhere/m.gguf
    [ "$status" -ne 0 ]
    [[ "$stderr" == *"350m"*"/nowhere/m.gguf"* ]]
    run --separate-stderr timeout 60 "$RUVLLM" serve --port 0 --set tiers.350m=https://example.org/m.gguf
    [ "$status" -ne 0 ]
    [[ "$stderr" == *"tiers.350m"*"download"* ]]
}

@test "without a model the server idles below 30 MB" {
    start --port 0
    curl -sS "$base/v1/health" >/dev/null
    rss=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$server/status")
    echo "$rss kB"
    [ "$rss" -lt 30720 ]
    stops TERM
}

@test "a tier takes the demo model of its size, a name is looked for beside it" {
    mkdir -p "$home/models" "$home/data/models"
    cp "$root/tests/data/golden/a-q8_0.gguf" "$home/models/demo-s.gguf"
    cp "$root/tests/data/golden/a-q8_0.gguf" "$home/data/models/mine.gguf"
    export RUVLLM_MODELS=$home/models
    start --port 0
    grep -q '^  models   700m (default)' "$home/log"
    stops TERM
    start --port 0 --set tiers.350m=mine --model 350m
    grep -q '^  models   350m (default) 700m' "$home/log"
    stops TERM
    start --port 0 --config "$root/config/edge.toml" --set inference.models=700m
    grep -q '^  models   700m (default)' "$home/log"
    stops TERM
}
