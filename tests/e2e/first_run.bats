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
