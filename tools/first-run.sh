#!/bin/bash
# What the program does, shown once from beginning to end: import notes, ask, correct, restart, ask again. Every answer is
# compared with the one in QUESTIONS, so this is a test as well.
# Usage: [RUVLLM=program] [FIRST_RUN_DATA=folder] tools/first-run.sh [NOTES QUESTIONS]
set -euo pipefail
cd "$(dirname "$0")/.."
program=${RUVLLM:-build/release/ruvllm}
notes=${1:-examples/notes}
questions=${2:-examples/notes-questions.json} # [{question, answer, correction?}]
data=${FIRST_RUN_DATA:-build/first-run}       # removed at the start
log=$data.log
server='' base=''

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'
else
    bold='' dim='' green='' red='' off=''
fi

stop_server() {
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
        server=''
    fi
}
trap stop_server EXIT
trap 'exit 130' INT TERM

fail() {
    echo "${red}first run: $*${off}" >&2
    exit 1
}

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }

# Show a command as one would type it, then run it.
shown() {
    printf '%s$ %s%s\n' "$dim" "$*" "$off"
    "$@"
}

for tool in curl jq; do
    command -v "$tool" >/dev/null || fail "needs $tool; install it with your package manager"
done
[ -x "$program" ] || fail "$program is not built; run make"
[ -s "$questions" ] || fail "$questions is missing"

start_server() {
    : >"$log"
    "$program" serve --port 0 2>"$log" &
    server=$!
    for _ in $(seq 200); do
        base=$(sed -n 's|^ *API *\(http://[^ ]*\)/v1.*|\1|p' "$log")
        [ -n "$base" ] && return
        kill -0 "$server" 2>/dev/null || { server=''; fail "the server did not start: $(tail -n 1 "$log")"; }
        sleep 0.05
    done
    fail "the server did not say within 10 s where it listens: $(tail -n 1 "$log")"
}

# post PATH JSON: the answer, or the server's reason.
post() {
    local reply
    reply=$(curl -sS --max-time 60 -H 'Content-Type: application/json' --data-binary "$2" "$base$1") || fail "no answer from $base$1"
    if jq -e 'has("error")' <<<"$reply" >/dev/null; then
        fail "$1: $(jq -r '.error.message' <<<"$reply")"
    fi
    printf '%s' "$reply"
}

print_answer() {
    jq -r --arg bold "$bold" --arg dim "$dim" --arg off "$off" '
        def cut($n): gsub("\\s+"; " ") | if length > $n then .[:$n - 3] + "..." else . end;
        def pad($n): . + " " * ([$n - length, 0] | max);
        def ms: (. * 10 | round) / 10 | tostring | (if test("[.]") then . else . + ".0" end) + " ms";
        .latency as $l
        | "  answer   \($bold)\(.text)\($off)",
          (.sources | to_entries[]
            | "  \(if .key == 0 then "sources" else "       " end)  \($dim)[\(.key + 1)] \(.value.type | pad(6)) \(.value.origin | sub(".*/"; "") | pad(17)) \(.value.text | cut(76))\($off)"),
          (if (.sources | length) == 0 then "  sources  \($dim)none\($off)" else empty end),
          "  model    \(.routing_info.model) (\(.routing_info.reason))",
          "  time     embed \($l.embedding_ms | ms), memory \($l.retrieval_ms | ms), router \($l.routing_ms | ms), attend \($l.attention_ms | ms), backend \($l.generation_ms | ms), learn \($l.total_ms - $l.embedding_ms - $l.retrieval_ms - $l.routing_ms - $l.attention_ms - $l.generation_ms | ms)"
    ' <<<"$1"
}

# ask QUESTION EXPECTED [NOT]: prints the answer; fails when EXPECTED is not in it, or NOT is, or nothing was drawn from memory.
reply=''
ask() {
    local text
    printf '%s? %s%s\n' "$green" "$1" "$off"
    reply=$(post /v1/query "$(jq -n --arg q "$1" '{query: $q}')")
    print_answer "$reply"
    text=$(jq -r .text <<<"$reply")
    jq -e --arg e "$2" '.text | ascii_downcase | contains($e | ascii_downcase)' <<<"$reply" >/dev/null ||
        fail "asked \"$1\", expected \"$2\" in the answer, got \"$text\""
    if [ -n "${3:-}" ] && jq -e --arg e "$3" '.text | ascii_downcase | contains($e | ascii_downcase)' <<<"$reply" >/dev/null; then
        fail "asked \"$1\", \"$3\" was corrected and is still in the answer \"$text\""
    fi
    jq -e '.sources | length > 0' <<<"$reply" >/dev/null || fail "asked \"$1\", the answer names no source"
}

for name in $(compgen -e | grep '^RUVLLM_' || true); do
    [ "$name" = RUVLLM_MODELS ] || unset "$name"
done
rm -rf "$data" "$log"
mkdir -p "$(dirname "$data")"
export RUVLLM_DATA=$data # data and configuration of this run alone

step "A fresh memory reads our notes ($notes)"
shown "$program" memory import "$notes"

step "The server starts"
start_server
sed 's/^/  /' "$log"

step "Three questions"
n=$(jq length "$questions")
for i in $(seq 0 $((n - 1))); do
    question=$(jq -r ".[$i].question" "$questions")
    ask "$question" "$(jq -r ".[$i].answer" "$questions")"
    if [ "$(jq -r ".[$i].correction // \"\"" "$questions")" ]; then
        wrong=$(jq -r ".[$i].answer" "$questions")
        right=$(jq -r ".[$i].correction" "$questions")
        corrected=$question
        request=$(jq -r .request_id <<<"$reply")
    fi
done
[ -n "${corrected:-}" ] || fail "$questions has no question with a correction"

step "That has changed since: a correction"
echo "  POST /v1/feedback   correction: $right"
post /v1/feedback "$(jq -n --arg id "$request" --arg c "$right" '{request_id: $id, rating: 2, correction: $c}')" >/dev/null
ask "$corrected" "$right" "$wrong"

step "SIGTERM, and a new start"
kill -TERM "$server"
wait "$server" || fail "the server ended with exit code $? after SIGTERM: $(tail -n 1 "$log")"
server=''
start_server
ask "$corrected" "$right" "$wrong"
stop_server

step "It still knows. How to go on"
cat <<END
  $program chat --data $data      talk to these notes
  $program memory import FOLDER   give it your own (without --data: in your home folder)
  $program serve                  the server, with an OpenAI-compatible API
  $program --help                 everything else; docs/guide/ explains it
END
