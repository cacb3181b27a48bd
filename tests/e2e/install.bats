#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# What `cmake --install` puts where, run from there by a user with an empty home. Needs the build folder of the program.

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${RUVLLM:=$root/build/release/ruvllm}"
    home=$(mktemp -d "$BATS_TMPDIR/ruvllm-install-XXXXXX")
    for name in $(compgen -e | grep '^RUVLLM_'); do
        unset "$name"
    done
    unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME XDG_CACHE_HOME NO_COLOR
    export HOME=$home/empty
    mkdir "$HOME"
    cmake --install "$(dirname "$RUVLLM")" --prefix "$home/prefix" >"$home/log"
    PATH=$home/prefix/bin:$PATH
    cd "$HOME"
}

teardown() {
    rm -rf "$home"
}

@test "an installed program finds its models, and remembers and answers" {
    [ "$(command -v ruvllm)" = "$home/prefix/bin/ruvllm" ]
    ruvllm memory add "The boat is called Marlin." >/dev/null
    run --separate-stderr ruvllm query "What is the boat called?"
    [ "$status" -eq 0 ]
    [[ "$output" == *"Marlin"* ]]
    ruvllm memory stats --json | jq -e '.embedder | startswith("static-")'
    ruvllm doctor --json | jq -se 'map(select(.result == "fault" or .check == "embedder" and .result != "fine")) == []'
}

@test "manual page, completions and profiles are installed" {
    ruvllm man | cmp - "$home/prefix/share/man/man1/ruvllm.1"
    ruvllm completion bash | cmp - "$home/prefix/share/bash-completion/completions/ruvllm"
    ruvllm completion zsh | cmp - "$home/prefix/share/zsh/site-functions/_ruvllm"
    ruvllm completion fish | cmp - "$home/prefix/share/fish/vendor_completions.d/ruvllm.fish"
    ruvllm config check "$home/prefix/share/ruvllm/config/edge.toml"
}

@test "doctor warns when the embedder's file is not there" {
    rm "$home/prefix/share/ruvllm/models/embedder.rvemb"
    run ruvllm doctor --json
    [ "$status" -eq 1 ]
    echo "$output" | jq -se 'map(select(.check == "embedder"))[0] | .result == "warning" and (.details | contains("embedder.rvemb"))'
}
