#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# tools/first-run.sh, what `make run` shows: with the demo models on the shipped notes, and with the trial models on notes of
# the kind they were trained on, where it must also notice a wrong answer.

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${RUVLLM:=$root/build/release/ruvllm}"
    RUVLLM=$(readlink -f "$RUVLLM")
    export RUVLLM
    work=$(mktemp -d "$BATS_TMPDIR/ruvllm-first-XXXXXX")
    export FIRST_RUN_DATA=$work/data NO_COLOR=1
    unset RUVLLM_MODELS
}

teardown() {
    rm -rf "$work"
}

trial_setup() {
    trial=$root/../shared/trial/demo-tiers/trial-s3.gguf
    [ -f "$trial" ] || skip "../shared/trial/demo-tiers is not here"
    mkdir "$work/models" "$work/notes"
    cp "$trial" "$work/models/demo-m.gguf"
    export RUVLLM_MODELS=$work/models
    echo 'Anna Keller works at Sashife Foods.' >"$work/notes/anna.txt"
    echo 'Sashife Foods is based in Lake Pascan. The director of Sashife Foods is Igor Beck.' >"$work/notes/foods.txt"
    echo 'Maria Stone lives in Port Velin.' >"$work/notes/maria.txt"
    cat >"$work/questions.json" <<'JSON'
[{"question": "Where does Anna Keller work?", "answer": "Sashife Foods"},
 {"question": "Where is the employer of Anna Keller based?", "answer": "Lake Pascan"},
 {"question": "Where does Maria Stone live?", "answer": "Port Velin", "correction": "Lake Pascan"}]
JSON
}

@test "the shipped notes: three answers, a correction, a restart" {
    for tier in xs s m l; do
        [ -f "$root/models/demo-$tier.gguf" ] && found=1
    done
    [ -n "${found:-}" ] || skip "models/demo-*.gguf are not here"
    export RUVLLM_MODELS=$root/models
    run "$root/tools/first-run.sh"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"It still knows"* ]]
}

@test "trial models: it answers, is corrected, and still knows after a restart" {
    trial_setup
    run "$root/tools/first-run.sh" "$work/notes" "$work/questions.json"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"It still knows"* ]]
    [ "$(grep -c 'answer   .*Lake Pascan' <<<"$output")" -eq 3 ]
}

@test "a wrong answer is noticed, named, and leaves no server behind" {
    trial_setup
    sed -i 's/Port Velin/Port Nowhere/' "$work/questions.json"
    run "$root/tools/first-run.sh" "$work/notes" "$work/questions.json"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == *'expected "Port Nowhere" in the answer'* ]]
    run "$RUVLLM" memory stats --data "$FIRST_RUN_DATA" # would be refused while a server has the folder
    [ "$status" -eq 0 ]
}

@test "a model that cannot be loaded ends it with a sentence" {
    trial_setup
    echo 'not a model' >"$work/models/demo-m.gguf"
    run "$root/tools/first-run.sh" "$work/notes" "$work/questions.json"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == *"first run:"* ]]
}

# start_server: its address in $base, its process in $server.
start_server() {
    : >"$work/log"
    "$RUVLLM" serve --port 0 --data "$work/data" 2>"$work/log" >/dev/null 3>&- &
    server=$!
    for _ in $(seq 1200); do
        base=$(sed -n 's|^ *API *\(http://[^ ]*\)/v1.*|\1|p' "$work/log")
        [ -n "$base" ] && return
        sleep 0.05
    done
    cat "$work/log"
    return 1
}

post() {
    curl -sS -H 'Content-Type: application/json' -d "$2" "$base$1"
}

@test "kill -9 right after a correction was acknowledged: it is known after the restart" {
    trial_setup
    "$RUVLLM" memory import "$work/notes" --data "$work/data"
    question='{"query": "Where does Maria Stone live?"}'
    start_server
    request=$(post /v1/query "$question" | jq -r .request_id)
    post /v1/feedback "{\"request_id\": \"$request\", \"correction\": \"Lake Pascan\"}" | jq -e 'has("error") | not'
    kill -KILL "$server"
    wait "$server" || true
    start_server
    answer=$(post /v1/query "$question")
    post /v1/feedback "{\"request_id\": \"$request\", \"rating\": 2}" | jq -e 'has("error") | not' # the old request is known too
    kill -TERM "$server"
    wait "$server"
    echo "$answer"
    [[ "$(jq -r .text <<<"$answer")" == *"Lake Pascan"* ]]
    [ "$(jq -r '.sources[0].type' <<<"$answer")" = fact ]
    "$RUVLLM" witness verify --data "$work/data"
}
