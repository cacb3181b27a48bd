#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The command line as a new user meets it. RUVLLM names the program; every test has an empty home of its own.

setup() {
    : "${RUVLLM:=$BATS_TEST_DIRNAME/../../build/release/ruvllm}"
    home=$(mktemp -d "$BATS_TMPDIR/ruvllm-cli-XXXXXX")
    export HOME=$home XDG_CONFIG_HOME=$home/config XDG_DATA_HOME=$home/data XDG_STATE_HOME=$home/state XDG_CACHE_HOME=$home/cache
    unset RUVLLM_DATA NO_COLOR
    model=$BATS_TEST_DIRNAME/../../tests/data/golden/a-q8_0.gguf
}

teardown() {
    rm -rf "$home"
}

@test "without arguments it explains itself on stderr and exits 2" {
    run --separate-stderr "$RUVLLM"
    [ "$status" -eq 2 ]
    [ -z "$output" ]
    [[ "$stderr" == *"Commands:"* ]]
}

@test "--help goes to stdout and exits 0, for the program, a group and a command" {
    for args in "--help" "memory --help" "memory add --help" "help memory add" "serve -h"; do
        run --separate-stderr "$RUVLLM" $args
        [ "$status" -eq 0 ]
        [ -n "$output" ]
        [ -z "$stderr" ]
    done
}

@test "every command explains itself, in a sentence that begins with a capital" {
    "$RUVLLM" man | sed -n 's/^\.It Ic \([a-z ]*\).*/\1/p' | while read -r command; do
        "$RUVLLM" $(echo "$command" | sed 's/ Ar .*//') --help | sed -n 3p | grep -q '^[A-Z]'
    done
}

@test "--version is version" {
    [ "$("$RUVLLM" --version)" = "$("$RUVLLM" version)" ]
}

@test "an unknown verb of a group is named" {
    run "$RUVLLM" memory serch cats
    [ "$status" -eq 2 ]
    [[ "$output" == *"no command memory serch. Did you mean "*"ruvllm memory search"*"?"* && "$output" == *"memory import"* ]]
}

@test "a near miss gets a suggestion and exit code 2" {
    run "$RUVLLM" memroy
    [ "$status" -eq 2 ]
    run "$RUVLLM" sevre
    [ "$status" -eq 2 ]
    [[ "$output" == *'`ruvllm serve`'* ]]
    run "$RUVLLM" serve --prot 1
    [ "$status" -eq 2 ]
    [[ "$output" == *"--port"* ]]
}

@test "wrong values are named with what is allowed" {
    run "$RUVLLM" serve --port 99999999
    [ "$status" -eq 2 ]
    [[ "$output" == *"port"* && "$output" == *"65535"* ]]
    run "$RUVLLM" bench llm "$model" -r 0
    [ "$status" -eq 2 ]
    [[ "$output" == *"--repeat"* ]]
}

@test "an empty value of an option is refused" {
    for call in "memory add x" "memory import $home" "memory search x" "memory rm" "query x" "chat" "forget" "learn run"; do
        run "$RUVLLM" $call --user ''
        [ "$status" -eq 2 ]
        [[ "$output" == *"--user needs NAME, found an empty text"* ]]
    done
    run "$RUVLLM" memory list --tag=
    [ "$status" -eq 2 ]
    [ "$("$RUVLLM" memory stats --json | jq .nodes)" -eq 0 ]
}

@test "a day that no calendar has is refused" {
    for day in 2026-02-31 2026-04-31 2025-02-29 2026-02-30T12:00:00Z; do
        run "$RUVLLM" memory search x --since $day
        [ "$status" -eq 2 ]
        [[ "$output" == *"--since"*"$day"* ]]
        run "$RUVLLM" memory list --until $day
        [ "$status" -eq 2 ]
    done
    "$RUVLLM" memory list --since 2024-02-29 --until 2026-12-31T23:59:59Z
}

@test "a mistake on the line is said once, by name" {
    for call in "memory link 1 2 --weight 5" "memory search x -k 0" "memory list -k 0" "query x -n 0"; do
        run "$RUVLLM" $call
        [ "$status" -eq 2 ]
        [ "$(grep -c '^ruvllm' <<< "$output")" -eq 1 ]
        [ "$(wc -l <<< "$output")" -eq 2 ]
    done
    run "$RUVLLM" feedback
    [[ "$output" == *"ruvllm feedback: REQUEST is missing"* ]]
    run "$RUVLLM" memory link 1
    [[ "$output" == *"ruvllm memory link: TO is missing"* ]]
    run "$RUVLLM" eval dequant model
    [[ "$output" == *"ruvllm eval dequant: TENSOR is missing"* ]]
    run "$RUVLLM" query a b
    [[ "$output" == *"too many arguments"*'`b`'* ]]
    run "$RUVLLM" learn rollback foo
    [ "$status" -eq 2 ]
    [[ "$output" == *"router, retrieval"*"foo"* ]]
}

@test "terminal escapes in arguments are not echoed" {
    run "$RUVLLM" $'ev\e[31mil'
    [ "$status" -eq 2 ]
    [[ "$output" != *$'\e'* ]]
}

@test "a missing model, a folder and a text file are one sentence and exit code 1" {
    for file in "$home/none.gguf" "$home" "$BATS_TEST_FILENAME"; do
        run "$RUVLLM" show "$file"
        [ "$status" -eq 1 ]
        [ "$(echo "$output" | wc -l)" -eq 1 ]
    done
}

@test "show prints what a file holds, also as JSON" {
    run "$RUVLLM" show "$model"
    [ "$status" -eq 0 ]
    [[ "$output" == *"5 layers: 2 attention"* ]]
    "$RUVLLM" show --json "$model" | jq -e '.layers == 5 and .heads == 4 and .types == "F32 18, Q8_0 30"' || {
        "$RUVLLM" show --json "$model"
        false
    }
}

@test "tokenize and detokenize are each other's inverse" {
    text='Naïve "quotes", 123 tabs	and 日本語 🙂'
    ids=$(jq -nc --arg t "$text" '{text: $t}' | "$RUVLLM" eval tokenize "$model" --jsonl)
    back=$(echo "$ids" | "$RUVLLM" eval detokenize "$model" --jsonl | jq -r .text)
    [ "$back" = "$text" ]
}

@test "run completes a raw prompt deterministically under one seed" {
    first=$("$RUVLLM" run "$model" --raw --seed 7 --temperature 1 -n 16 "Once" | sha256sum)
    again=$(echo "Once" | "$RUVLLM" run "$model" --raw --seed 7 --temperature 1 -n 16 --threads 1 | sha256sum)
    other=$("$RUVLLM" run "$model" --raw --seed 8 --temperature 1 -n 16 "Once" | sha256sum)
    [ "$first" = "$again" ]
    [ "$first" != "$other" ]
}

@test "run loads the tier that is to guess, says the same, and says when it cannot guess" {
    export RUVLLM_MODELS=$BATS_TEST_DIRNAME/../../models
    prompt="What is the capital of France?"
    alone=$("$RUVLLM" run 700m --seed 3 --json "$prompt")
    [ "$(jq .model_drafted <<< "$alone")" -eq 0 ]
    helped=$("$RUVLLM" run 700m --seed 3 --json --draft-model 350m "$prompt")
    [ "$(jq .model_drafted <<< "$helped")" -gt 0 ]
    [ "$(jq .text <<< "$helped")" = "$(jq .text <<< "$alone")" ]
    off=$("$RUVLLM" run 700m --seed 3 --json --draft-model 350m --drafts off "$prompt")
    [ "$(jq .drafted <<< "$off")" -eq 0 ]

    run --separate-stderr "$RUVLLM" run 350m --seed 3 --draft-model 700m "$prompt"
    [ "$status" -eq 0 ]
    [[ "$stderr" == *draft_model.unused*"not smaller"* ]]
    run --separate-stderr "$RUVLLM" run "$model" --raw -n 4 --draft-model 350m Once
    [ "$status" -eq 0 ]
    [[ "$stderr" == *draft_model.unused*vocabulary* ]]
    run "$RUVLLM" run 700m --set inference.models=700m --draft-model 350m "$prompt"
    [ "$status" -eq 1 ]
    [[ "$output" == *'no model "350m"'* ]]
}

@test "run holds the context and keeps the cache that the configuration says" {
    run "$RUVLLM" run "$model" --raw --set inference.max_context=64 "$(printf 'word %.0s' {1..200})"
    [ "$status" -eq 1 ]
    [[ "$output" == *"the context holds 64 "* ]]
    RUVLLM_INFERENCE_KV_TYPE=f32 "$RUVLLM" eval logits "$model" --ids 1,5,9,13 --out "$home/set"
    "$RUVLLM" eval logits "$model" --ids 1,5,9,13 --out "$home/f32" --kv f32
    "$RUVLLM" eval logits "$model" --ids 1,5,9,13 --out "$home/f16"
    cmp "$home/set" "$home/f32"
    ! cmp -s "$home/f16" "$home/f32"
    run "$RUVLLM" run "$model" --kv q3 Once
    [ "$status" -eq 2 ]
}

@test "bench llm prints JSON lines with median, least and most" {
    "$RUVLLM" bench llm "$model" -p 32 -n 8 -r 3 -t 2 | jq -se 'length == 2 and all(.[]; .min <= .tokens_per_second and .tokens_per_second <= .max and .min > 0)'
}

# row VALUE...: one row of an fvecs file, of floats whose bytes are given in hexadecimal
fvecs_row() {
    printf "\\x$(printf %02x $#)\\0\\0\\0"
    for bytes in "$@"; do printf "\\x${bytes:6:2}\\x${bytes:4:2}\\x${bytes:2:2}\\x${bytes:0:2}"; done
}

@test "bench ann measures every kind of index, and refuses files that do not fit" {
    one=3f800000 two=40000000 minus=bf800000
    { fvecs_row $one $two; fvecs_row $two $one; fvecs_row $minus $one; } > "$home/base.fvecs"
    fvecs_row $two $two > "$home/query.fvecs"
    fvecs_row 00000000 00000001 00000002 > "$home/gt.ivecs"
    ann=(bench ann --base "$home/base.fvecs" --queries "$home/query.fvecs" --truth "$home/gt.ivecs" -k 3)
    for index in flat hnsw rabitq; do
        "$RUVLLM" "${ann[@]}" --index $index --ef 8 | jq -e '."recall@10" == 1 and .qps > 0 and .p50_us <= .p99_us and
            .build_s >= 0 and .bytes_per_vector > 8 and .open_ms >= 0 and .index == "'$index'"'
    done
    for pass in built opened; do # the second finds what the first saved
        "$RUVLLM" "${ann[@]}" --index hnsw --ef 8 --saved "$home/ann.idx" | jq -e '."recall@10" == 1 and .n == 3 and
            (.build_s > 0) == ("'$pass'" == "built")'
    done
    printf x | dd of="$home/ann.idx" bs=1 seek=4100 conv=notrunc status=none
    run --separate-stderr "$RUVLLM" "${ann[@]}" --index hnsw --ef 8 --saved "$home/ann.idx"
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"ann.idx: "*"remove it to build it anew"* ]]
    printf '\5\0\0\0\1\0\0\0\5\0\0\0' > "$home/attr.u32" # the second alone is below 5
    fvecs_row 00000001 ffffffff ffffffff > "$home/few.ivecs"
    "$RUVLLM" "${ann[@]}" --truth "$home/few.ivecs" --attr "$home/attr.u32" --below 5 --keep file |
        jq -e '."recall@10" == 1 and .passing == 1'
    run "$RUVLLM" "${ann[@]}" --attr "$home/attr.u32"
    [ "$status" -eq 2 ]
    run --separate-stderr "$RUVLLM" "${ann[@]}" --index tree
    [ "$status" -eq 1 ]
    [[ "$stderr" == *'there is no index "tree"'* ]]
    run "$RUVLLM" "${ann[@]}" --ef 8,
    [ "$status" -eq 2 ]
    run "$RUVLLM" bench ann --base "$home/base.fvecs"
    [ "$status" -eq 2 ]
    printf cut >> "$home/query.fvecs"
    run --separate-stderr "$RUVLLM" "${ann[@]}"
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"query.fvecs: vectors: "* ]]
}

@test "init makes folders only the user can read, and a configuration that passes its own check" {
    run "$RUVLLM" init
    [ "$status" -eq 0 ]
    [ "$(stat -c %a "$XDG_DATA_HOME/ruvllm")" = 700 ]
    [ "$(stat -c %a "$XDG_DATA_HOME/ruvllm/ruvllm.db")" = 600 ]
    [ "$(stat -c %a "$XDG_CONFIG_HOME/ruvllm/ruvllm.toml")" = 600 ]
    run "$RUVLLM" config check "$XDG_CONFIG_HOME/ruvllm/ruvllm.toml"
    [ "$status" -eq 0 ]
    [ ! -e "$HOME/.ruvllm" ]
}

@test "memory add says what was there in other words and what it corrects" {
    id=$("$RUVLLM" memory add --json "The workshop closes at 6" --pin | jq .id)
    "$RUVLLM" memory add --json "the WORKSHOP closes at 6!" | jq -e --argjson id "$id" '.id == $id and .near and (.added | not)'
    "$RUVLLM" memory add --json "The workshop closes at 7" | jq -e --argjson id "$id" '.added and .corrects == $id'
    "$RUVLLM" memory search --json "workshop closes" -k 1 | jq -e '.text | contains("7")'
    "$RUVLLM" memory get --json "$id" | jq -e '.pinned'
    "$RUVLLM" memory add --as-is --json "the WORKSHOP closes at 6!" | jq -e '.added'
    run "$RUVLLM" memory add "?!"
    [ "$status" -eq 1 ]
    [[ "$output" == *"no letters or digits"* ]]
    run "$RUVLLM" memory add "x" --ttl soon
    [ "$status" -eq 2 ]
    "$RUVLLM" memory keep --json "$id" --unpin --ttl 7d | jq -e '.expires and (.pinned | not)'
    "$RUVLLM" memory keep "$id" --ttl 0s > /dev/null
    run "$RUVLLM" memory get "$id"
    [ "$status" -eq 1 ]
    "$RUVLLM" memory check
}

@test "memory export and import: everything comes back, and is searched as it is" {
    mkdir -p "$home/notes"
    printf '# Rome\n\nThe train to Rome leaves at eight.\n' > "$home/notes/trip.md"
    printf '<title>Menu</title><h1>Lunch</h1><p>The soup is of tomatoes.' > "$home/notes/menu.html"
    printf '{"text":"Ada likes tea.","tags":["people"]}\n' > "$home/notes/rows.jsonl"
    "$RUVLLM" memory import --json "$home/notes" | jq -e '.files == 3 and .chunks_added == 2 and .notes_added == 1'
    "$RUVLLM" memory export "$home/out" --json | jq -e '.nodes == 5 and .vectors == 3 and .generation == 1'
    "$RUVLLM" memory search "which soup is there" --bundle "$home/out" -k 1 --json | jq -e '.bundle == "out" and (.text | contains("tomatoes"))'
    "$RUVLLM" --data "$home/two" memory import "$home/out" --json | jq -e '.nodes == 5 and .unchanged == 0'
    "$RUVLLM" --data "$home/two" memory check
    "$RUVLLM" --data "$home/two" memory export "$home/again" > /dev/null
    cat "$home"/out/nodes-* | cmp - "$home"/again/nodes-*
    cat "$home"/out/vectors-* | cmp - "$home"/again/vectors-*
    "$RUVLLM" memory export "$home/people" --tag people --json | jq -e '.nodes == 1'
    run --separate-stderr "$RUVLLM" memory search tea --bundle "$home/people" --bundle "$home/nowhere"
    [ "$status" -eq 0 ]
    [[ "$output" == *"Ada"* && "$stderr" == *"nowhere"* ]]
    run "$RUVLLM" memory search tea --bundle "$home/out" --tag people
    [ "$status" -eq 2 ]
    [[ "$output" == *"--tag"* ]]
    sed -i 's/"n":5/"n":6/' "$home/out/table.rulake.json"
    run "$RUVLLM" --data "$home/three" memory import "$home/out"
    [ "$status" -eq 1 ]
    [[ "$output" == *"rvf_witness"* ]]
}

@test "memory compact gives back the room of what was removed, and changes no answer" {
    for i in $(seq 300); do echo "{\"text\": \"shelf $i holds the book of letter $((i * 7919))\"}"; done > "$home/rows.jsonl"
    "$RUVLLM" memory import --json "$home/rows.jsonl" | jq -e '.notes_added == 300'
    "$RUVLLM" memory rm $(seq 300 | awk '$1 % 6') > /dev/null
    "$RUVLLM" memory search "the book on shelf 36" --json > "$home/before"
    run --separate-stderr "$RUVLLM" memory compact --json
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    echo "$output" | jq -e '.bytes < .bytes_before and .vectors_erased == 250 and .vectors_copied == 50 and .files_removed == 1'
    "$RUVLLM" memory search "the book on shelf 36" --json | diff - "$home/before"
    "$RUVLLM" memory stats --json | jq -e '.vectors == 50 and .vectors_dead == 0'
    run "$RUVLLM" memory compact
    [ "$status" -eq 0 ]
    [[ "$output" == *"before; 0 vectors erased, 0 copied, 0 files removed" ]]
    "$RUVLLM" memory check
    run "$RUVLLM" memory compact now
    [ "$status" -eq 2 ]
}

@test "memory import says what it left out, and why" {
    mkdir -p "$home/notes"
    printf 'fine.' > "$home/notes/a.txt"
    printf '%%PDF-1.4 nothing' > "$home/notes/b.pdf"
    run "$RUVLLM" memory import "$home/notes"
    [ "$status" -eq 1 ]
    [[ "$output" == *"1 chunks added"* && "$output" == *"b.pdf"* && "$output" == *pdftotext* ]]
    PATH=/nowhere run "$RUVLLM" memory import "$home/notes/b.pdf"
    [[ "$output" == *"poppler-utils"* ]]
    run --separate-stderr "$RUVLLM" memory import --json "$home/notes" "$home/none" "$home/notes/a.txt"
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"2 of 3 were left out, the first: $home/none: No such file"* && "$stderr" == *"left out: "*b.pdf* ]]
    echo "$output" | jq -e --arg home "$home" '.files == 1 and .failed == 2 and .left == 0 and .failed_files[0].path == $home + "/none"
        and (.failed_files[1].why | contains("pdftotext"))'
}

@test "memory import says what is gone from a folder, and removes it when told" {
    mkdir "$home/notes"
    export RUVLLM_DATA="$home/its data"
    for i in 1 2 3; do echo "The shelf number $i holds tea." > "$home/notes/$i.txt"; done
    "$RUVLLM" memory import "$home/notes"
    rm "$home/notes/2.txt"
    run --separate-stderr "$RUVLLM" memory import "$home/notes" --data "$RUVLLM_DATA"
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"1 documents"*"/notes/2.txt"*"ruvllm memory rm "*" --data '$RUVLLM_DATA'" ]]
    command=$(echo "$stderr" | tail -1)
    [ "$("$RUVLLM" memory search "shelf number 2" --json --mode words | jq -s 'map(select(.text | contains("2"))) | length')" -eq 1 ]
    "$RUVLLM" memory import --json "$home/notes" | jq -e '.gone_files | length == 1'
    eval "${command/ruvllm/\"$RUVLLM\"}"
    "$RUVLLM" memory import --json "$home/notes" | jq -e '.gone_files == []'
    run "$RUVLLM" memory search "shelf number 2" --json
    [[ "$output" != *"number 2"* ]]
}

@test "memory add, search, get, list and rm tell the same story" {
    id=$("$RUVLLM" memory add --json "The workshop closes at six." --tag hours | jq .id)
    "$RUVLLM" memory add "The cat is called Miso." > /dev/null
    "$RUVLLM" memory search --json "When does the workshop close?" -k 1 | jq -e --argjson id "$id" '.id == $id'
    "$RUVLLM" memory get --json "$id" | jq -e '.tags == ["hours"] and .type == "note"'
    [ "$("$RUVLLM" memory list --json --tag hours | wc -l)" -eq 1 ]
    [ "$("$RUVLLM" memory add --json "The workshop closes at six." | jq .added)" = false ]
    run "$RUVLLM" memory rm "$id" --user somebody
    [ "$status" -eq 1 ]
    [[ "$output" == *"memory $id is not among"* ]]
    run "$RUVLLM" memory rm "$id" nonsense
    [ "$status" -eq 2 ]
    [ "$("$RUVLLM" memory rm --json "$id" | jq .removed)" -eq 1 ]
    run "$RUVLLM" memory get "$id"
    [ "$status" -eq 1 ]
    run "$RUVLLM" memory rm 2 "$id"
    [ "$status" -eq 1 ]
    [[ "$output" == *"node $id is not in the memory"* ]]
    "$RUVLLM" memory get 2 # it was not removed on the way
    run "$RUVLLM" memory rm
    [ "$status" -ne 0 ]
    "$RUVLLM" memory check
}

@test "memory get shows tags, pin and end" {
    "$RUVLLM" memory add "The kiln is in the cellar." --tag house --tag heat --pin --ttl 7d > /dev/null
    run "$RUVLLM" memory get 1
    [[ "$output" == *"tags heat, house"*"until 20"*"pinned"*"The kiln"* ]]
}

@test "memory add reads standard input when no text is given" {
    [ "$(printf 'The kiln is\nin the cellar.\n\n' | "$RUVLLM" memory add --json | jq .id)" -eq 1 ]
    "$RUVLLM" memory get --json 1 | jq -e '.text == "The kiln is\nin the cellar."'
    run "$RUVLLM" memory add < /dev/null
    [ "$status" -eq 1 ]
    [[ "$output" == *"standard input is empty"* ]]
}

@test "a type that nothing has is named" {
    echo '{"text": "Water the plants.", "type": "task"}' > "$home/rows.jsonl"
    "$RUVLLM" memory import "$home/rows.jsonl"
    run "$RUVLLM" memory add x --type foo
    [ "$status" -eq 2 ]
    [[ "$output" == *"note or fact"*"foo"* ]]
    for verb in list rm; do
        run "$RUVLLM" memory $verb --type bogus
        [ "$status" -eq 2 ]
        [[ "$output" == *"--type is document, "*"bogus"* ]]
    done
    "$RUVLLM" memory list --type task --json | jq -e '.text == "Water the plants."'
    [ -z "$("$RUVLLM" memory list --type fact)" ]
}

@test "query takes a model file, as run does" {
    cp "$BATS_TEST_DIRNAME/../../models/demo-xs.gguf" "$home/other.gguf"
    cd "$home"
    "$RUVLLM" query -m other.gguf --json "Who?" | jq -e '.routing_info.model == "other"'
    "$RUVLLM" query -m "$home/other.gguf" --json "Who?" | jq -e '.routing_info.model == "other"'
    run "$RUVLLM" query -m none.gguf "Who?"
    [ "$status" -eq 1 ]
    [[ "$output" == *'"none.gguf"'* ]]
}

@test "commands say what they did in words, without a log" {
    export RUVLLM_MODELS=$BATS_TEST_DIRNAME/../../models
    "$RUVLLM" memory add "The boat is called Marlin." > /dev/null
    "$RUVLLM" query "What is the boat called?" > /dev/null
    run --separate-stderr "$RUVLLM" learn run
    [ "$status" -eq 0 ]
    [[ "$output" == *"background judge"* && "$stderr" != *"level="* ]]
    run --separate-stderr "$RUVLLM" learn run --log-level info
    [[ "$stderr" == *"level=info"* ]]
    "$RUVLLM" router stats | grep -q ' 1 requests, none rated$'
    ! "$RUVLLM" list | grep -F /../
    "$RUVLLM" list --json | jq -se 'length == 4 and all(.[]; .path | startswith("/") and (contains("/../") | not))'
}

@test "help says which of two options of one name wins" {
    "$RUVLLM" router train --help | grep -q -- '--data DIR  *is the one above here; RUVLLM_DATA'
    ! "$RUVLLM" memory list --help | grep -q 'one above'
}

@test "importing an unchanged folder again adds nothing" {
    mkdir "$home/notes"
    printf '# Hours\n\nThe library opens at nine. It closes at five.\n' > "$home/notes/a.md"
    printf 'The garden has forty beds.\n' > "$home/notes/b.txt"
    [ "$("$RUVLLM" memory import --json "$home/notes" | jq .files)" -eq 2 ]
    "$RUVLLM" memory import --json "$home/notes" | jq -e '.unchanged == 2 and .chunks_added == 0'
    printf 'The garden has fifty beds.\n' > "$home/notes/b.txt"
    "$RUVLLM" memory import --json "$home/notes" | jq -e '.unchanged == 1 and .replaced == 1'
    "$RUVLLM" memory search --json "beds in the garden" -k 1 | jq -e '.text | contains("fifty")'
}

@test "config show says where a value comes from" {
    RUVLLM_SERVER_PORT=9001 "$RUVLLM" config show --origin | grep -q '^server.port = 9001 .*RUVLLM_SERVER_PORT'
    "$RUVLLM" config show --origin --set server.port=9002 | grep -q '^server.port = 9002 .*--set'
}

@test "doctor finds a fresh home healthy" {
    run "$RUVLLM" doctor --json
    [ "$status" -le 1 ]
    [[ "$output" != *'"fault"'* ]]
}

@test "the manual page is clean mdoc" {
    command -v mandoc > /dev/null || skip "mandoc is not installed"
    "$RUVLLM" man > "$home/ruvllm.1"
    run mandoc -Tlint -Wwarning "$home/ruvllm.1"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "eval judge passes over empty lines" {
    mkdir "$home/pairs"
    printf '{"instruction": "a", "a": "b", "b": "c", "label": 1}\n\n' >"$home/pairs/pandalm.jsonl"
    run --separate-stderr "$RUVLLM" eval judge "$home/pairs"
    [ "$status" -eq 1 ]
    [[ "$stderr" == *"llmbar.jsonl: cannot be read"* ]]
}

@test "memory rm without anything named is wrong usage, and removes nothing" {
    "$RUVLLM" memory add 'The boat is blue.'
    run --separate-stderr "$RUVLLM" memory rm
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"an ID, or a filter"* ]]
    "$RUVLLM" memory get 1
}

@test "the manual page names every variable of ours" {
    "$RUVLLM" man > "$home/ruvllm.1"
    for name in $(grep -rhoE 'getenv\("RU?V(LLM)?_[A-Z_]+' "$BATS_TEST_DIRNAME/../../src" | cut -d'"' -f2); do
        grep -q "^.It Ev $name$" "$home/ruvllm.1"
    done
}

@test "completions are valid for their shells" {
    "$RUVLLM" completion bash | bash -n
    "$RUVLLM" completion bash | grep -q memory
    run "$RUVLLM" completion tcsh
    [ "$status" -eq 2 ]
    "$RUVLLM" completion zsh | bash -n # at least the quotes are in pairs
    for shell in zsh fish; do
        if command -v $shell > /dev/null; then "$RUVLLM" completion $shell | $shell -n; fi
    done
}

# completed SHELL WORD...: what the shell offers for the last word, FILES where it offers files too; one line.
completed() {
    local shell=$1
    shift
    "$RUVLLM" completion "$shell" > "$home/completion"
    case $shell in
    bash) bash -c 'source "$0"; compopt() { echo FILES; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ruvllm; printf "%s\n" "${COMPREPLY[@]}"' \
        "$home/completion" "$@" ;;
    zsh) zsh -fc 'compadd() { shift; print -l -- $PREFIX${^${(M)@:#$PREFIX*}#$PREFIX}; }; _files() { print FILES; }
        _describe() { local -a names=(${${(P)2}%%:*}); print -l -- ${(M)names:#$PREFIX*}; }
        words=("$@"); CURRENT=$#; PREFIX=$words[-1]; source "$0"' "$home/completion" "$@" ;;
    fish) touch "$home/a file of this folder"
        (cd "$home" && fish -c 'source $argv[1]; complete -C "$argv[2]"' "$home/completion" "$*") |
        sed 's/^a\\\? *file.*/FILES/; s/\t.*//' ;;
    esac | sort -u | paste -sd ' ' | sed 's/^ //'
}

@test "completions offer what may stand there, and files only where files are meant" {
    mkdir "$home/empty"
    for shell in bash zsh fish; do
        command -v $shell > /dev/null || continue
        cd "$home/empty"
        run completed $shell ruvllm --data x mem
        [[ "$output" == memory* ]]
        run completed $shell ruvllm --data x memory sea
        [[ "$output" == search* ]]
        run completed $shell ruvllm memory search --mode ''
        [ "$output" = "graph hybrid vector words" ]
        run completed $shell ruvllm completion ''
        [ "$output" = "bash fish zsh" ]
        run completed $shell ruvllm learn rollback s
        [ "$output" = "sides" ]
        run completed $shell ruvllm help mem
        [[ "$output" == memory* ]]
        run completed $shell ruvllm memory list --use
        [ "$output" = "--user" ]
        run completed $shell ruvllm memory list ''
        [ -z "$output" ]
        run completed $shell ruvllm query -m ''
        [[ "$output" == *"1.2b"*"2.6b"* ]]
        run completed $shell ruvllm show ''
        [[ "$output" == *FILES* ]]
        run completed $shell ruvllm memory list --type no
        [ "$output" = "note" ]
    done
}

@test "common options may stand before the command" {
    "$RUVLLM" --json version | jq -e .version
    [ "$("$RUVLLM" --data "$home/x" --json memory stats | jq .nodes)" -eq 0 ]
    run "$RUVLLM" --json
    [ "$status" -eq 2 ]
}

@test "a name that is not UTF-8 is said, not printed as an empty line of JSON" {
    cp "$model" "$home/"$'\xff'.gguf
    run --separate-stderr "$RUVLLM" show --json "$home/"$'\xff'.gguf
    [ "$status" -eq 1 ]
    [ -z "$output" ]
    [[ "$stderr" == *"UTF-8"* ]]
}

@test "a full disk on standard output is an error" {
    run bash -c "'$RUVLLM' config show > /dev/full"
    [ "$status" -eq 1 ]
    for command in "run '$model' --raw -n 4 Once" "query --set tiers.350m='$model' Once"; do
        run bash -c "'$RUVLLM' $command > /dev/full"
        [ "$status" -eq 1 ]
        [[ "$output" == *"standard output"* ]]
    done
}

@test "ps without a server says so" {
    run "$RUVLLM" ps --port 9
    [ "$status" -eq 1 ]
    [[ "$output" == *"no server answers"* ]]
}

@test "query says that an answer was cut" {
    export RUVLLM_MODELS=$BATS_TEST_DIRNAME/../../models
    "$RUVLLM" memory add "The boat is called Marlin." > /dev/null
    "$RUVLLM" query -m 350m -n 2 --json "What is the boat called?" | jq -e '.finish_reason == "length" and .usage.completion_tokens == 2'
    "$RUVLLM" query -m 350m --json "What is the boat called?" | jq -e '.finish_reason == "stop"'
    run --separate-stderr "$RUVLLM" query -m 350m -n 2 "What is the boat called?"
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"(cut after 2 tokens; -n gives more)"* ]]
}

@test "query puts the answer alone on standard output" {
    export RUVLLM_MODELS=$BATS_TEST_DIRNAME/../../models
    "$RUVLLM" memory add "The boat is called Marlin." > /dev/null
    run --separate-stderr "$RUVLLM" query "What is the boat called?"
    [ "$status" -eq 0 ]
    [ "$output" = "[1] Marlin" ]
    [[ "$stderr" == *"The boat is called Marlin."*"total "*"request "* ]]
}

@test "chat in a pipe knows the commands that it has on a terminal" {
    export RUVLLM_MODELS=$BATS_TEST_DIRNAME/../../models
    said='/remember The boat is called Marlin.\nWhat is the boat called?\n/sources\n/correct Albatross \n\n/what\nWhat is the boat called?\n/bye\nstill here?\n'
    run --separate-stderr bash -c "printf '$said' | '$RUVLLM' chat"
    [ "$status" -eq 0 ]
    [ "$(sed -n 2p <<< "$output")" = "[1] Marlin" ]
    [[ "$(sed -n 3p <<< "$output")" == "Stored."* ]]
    [ "$(sed -n 4p <<< "$output")" = "[1] Albatross" ]
    [ "$(wc -l <<< "$output")" -eq 4 ]
    [[ "$stderr" == *"shown with every answer"*"The boat is called Marlin."*"/correct TEXT"* ]]
    printf "$said" | "$RUVLLM" --data "$home/other" chat --json | jq -se 'length == 4 and .[0].added and .[1].text == "[1] Marlin" and .[3].text == "[1] Albatross"'
}

@test "memory search says how it searched, and finds the part asked for" {
    "$RUVLLM" memory add "The kiln is in the cellar."
    "$RUVLLM" memory search --json --explain kiln | tail -1 | jq -e '.plan.path == "flat" and .plan.rows == 1 and (.plan.why | contains("no index"))'
    run --separate-stderr "$RUVLLM" memory search --explain --recall exact kiln
    [ "$status" -eq 0 ]
    [[ "$output" == *"kiln"* && "$output" != *"exactly"* && "$stderr" == *"exactly the nearest 10"* ]]
    run --separate-stderr "$RUVLLM" memory search --recall most kiln
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"--recall"*"most"* ]]
    run --separate-stderr "$RUVLLM" memory search --recall 0.3 kiln
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"0.5"* ]]
}
