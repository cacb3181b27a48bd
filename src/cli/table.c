/* Every command and option, once. The order is the order of --help. */
#include "cli/cli.h"

const cmd_option cmd_common[] = {
    { "json", 0, NULL, NULL, "print JSON for machines" },
    { "data", 0, "DIR", NULL, "keep everything of this run in DIR (also RUVLLM_DATA)" },
    { "config", 0, "FILE", NULL, "read this configuration instead of the user's and the system's" },
    { "set", 0, "KEY=VALUE", NULL,
      "set one configuration key, as in --set server.port=9000; may be repeated" },
    { "log-level", 0, "LEVEL", "system.log_level", "error, warn, info or debug" },
    { "help", 'h', NULL, NULL, "explain this command" },
    { NULL, 0, NULL, NULL, NULL },
};

#define ENGINE_OPTIONS                                                                                       \
    { "threads", 't', "N", "inference.threads", "compute threads" },                                         \
        { "ctx", 'c', "N", "inference.max_context", "tokens one conversation may hold" },                    \
        { "kv", 0, "TYPE", "inference.kv_type", "numbers in the key/value cache: f32, f16, q8 or q4" },      \
        { "packing", 0, "HOW", "inference.packing", "weights in this CPU's layout: file, memory or off" },   \
        { "drafts", 0, "WHEN", "inference.drafts", "guess tokens and check several at once: auto or off" },  \
    {                                                                                                        \
        "act", 0, "TYPE", NULL, "f32 keeps activations in float32 (slow and exact, for measuring)"           \
    }

#define LORA_OPTION                                                                                          \
    {                                                                                                        \
        "lora", 0, "FILE", NULL, "adapter file for this model (GGUF)"                                        \
    }

#define SAMPLING_OPTIONS                                                                                     \
    { "temperature", 0, "T", NULL, "0 is greedy; default 0.3" },                                             \
        { "top-k", 0, "K", NULL, "sample among the K best; 0 is off" },                                      \
        { "top-p", 0, "P", NULL, "sample among the best that hold P of the probability; 1 is off" },         \
        { "min-p", 0, "P", NULL, "drop tokens below P times the best one's probability; default 0.15" },     \
        { "repeat-penalty", 0, "X", NULL, "weaken tokens of the last 64; 1 is off; default 1.05" },          \
        { "seed", 0, "N", NULL, "same seed, same text" },                                                    \
        { "max-tokens", 'n', "N", NULL, "stop after N tokens" },                                             \
    {                                                                                                        \
        "stop", 0, "TEXT", NULL, "stop before this text; may be repeated"                                    \
    }

#define LAST                                                                                                 \
    {                                                                                                        \
        NULL, 0, NULL, NULL, NULL                                                                            \
    }

static const cmd_option run_options[] = {
    SAMPLING_OPTIONS,
    { "system", 's', "TEXT", NULL, "system message" },
    { "raw", 0, NULL, NULL, "complete the prompt as it is, without the chat format" },
    LORA_OPTION,
    ENGINE_OPTIONS,
    { "draft-model", 0, "TIER", "inference.draft_model",
      "this smaller tier is loaded too and guesses what comes next, where that is faster" },
    LAST,
};
static const cmd_option loop_options[] = {
    { "session", 's', "ID", NULL, "continue this conversation" },
    { "user", 'u', "NAME", NULL, "whose memories may be used" },
    { "model", 'm', "NAME", NULL, "use this tier or model instead of what the router picks" },
    { "max-tokens", 'n', "N", NULL, "longest answer; default 256" },
    { "private", 0, NULL, NULL, "write nothing: no turn, no episode, no witness" },
    LAST,
};
static const cmd_option feedback_options[] = {
    { "rating", 'r', "1..5", NULL, "how good the answer was" },
    { "correction", 'c', "TEXT", NULL, "what the answer should have been" },
    LAST,
};
static const cmd_option forget_options[] = {
    { "user", 'u', "NAME", NULL, "everything of this user" },
    LAST,
};
static const cmd_option serve_options[] = {
    { "listen", 0, "ADDRESS", "server.listen", "address to listen on" },
    { "port", 'p', "N", "server.port", "port to listen on; 0 picks a free one" },
    { "insecure", 0, NULL, "server.insecure", "listen beyond this machine without keys" },
    { "threads", 't', "N", "inference.threads", "compute threads" },
    { "ctx", 'c', "N", "inference.max_context", "tokens one conversation may hold" },
    { "model", 'm', "NAME", "inference.model", "model that answers by default: tier, name or file" },
    LAST,
};
static const cmd_option ps_options[] = {
    { "listen", 0, "ADDRESS", "server.listen", "address the server listens on" },
    { "port", 'p', "N", "server.port", "its port" },
    LAST,
};
#define ROUTER_WEIGHTS                                                                                       \
    {                                                                                                        \
        "weights", 'w', "FILE", NULL, "weights that router train wrote"                                      \
    }
static const cmd_option router_train_options[] = {
    { "data", 0, "FILE", NULL,
      "lines {\"prompt\", \"split\", \"ok\": {tier: 0..1}, \"usd\" or \"outchars\"?}" },
    { "out", 'o', "FILE", NULL, "where the weights go" },
    { "tiers", 0, "LIST", NULL, "names in ok, smallest first, with commas; default those of the first line" },
    { "cost-share", 0, "X", NULL, "cost of the decisions as a share of always the last tier; default 0.45" },
    { "seed", 0, "N", NULL, "of the random numbers; default 1" },
    LAST,
};
static const cmd_option router_score_options[] = {
    { "jsonl", 0, NULL, NULL,
      "lines {\"prompt\"} in, {\"p_right\", \"tier\", \"confidence\"} out (the only form there is)" },
    ROUTER_WEIGHTS,
    LAST,
};
static const cmd_option router_eval_options[] = {
    { "data", 0, "FILE", NULL, "rows as for router train; those with \"split\": \"test\" count" },
    ROUTER_WEIGHTS,
    LAST,
};
static const cmd_option router_explain_options[] = { ROUTER_WEIGHTS, LAST };
static const cmd_option router_stats_options[] = {
    { "limit", 'k', "N", NULL, "how many requests; default 1000" },
    LAST,
};
static const cmd_option config_show_options[] = {
    { "origin", 0, NULL, NULL, "say where each value comes from" },
    LAST,
};
static const cmd_option embed_options[] = {
    { "embedder", 0, "NAME", "embedding.model", "which embedder" },
    LAST,
};
#define FILTER_OPTIONS                                                                                       \
    { "type", 0, "TYPE", NULL, "only nodes of this type: document, chunk, note, fact, qa, concept" },        \
        { "tag", 0, "TAG", NULL, "only nodes with this tag" },                                               \
        { "source", 0, "SOURCE", NULL, "only nodes from this source (a file, user, feedback)" },             \
        { "user", 'u', "NAME", NULL, "this user's nodes" },                                                  \
        { "since", 0, "TIME", NULL, "not older: 2026-01-31, 2026-01-31T12:00:00Z, or 30m, 12h, 7d ago" },    \
    {                                                                                                        \
        "until", 0, "TIME", NULL, "not newer, the same forms"                                                \
    }
static const cmd_option memory_add_options[] = {
    { "type", 0, "TYPE", NULL, "note (default) or fact" },
    { "tag", 0, "TAG", NULL, "tag; may be repeated" },
    { "source", 0, "SOURCE", NULL, "where it comes from; default user" },
    { "user", 'u', "NAME", NULL, "whose memory; default everybody's" },
    { "corrects", 0, "ID", NULL, "the node that this one corrects" },
    { "ttl", 0, "TIME", NULL, "forget it after 30m, 12h, 7d; default never" },
    { "pin", 0, NULL, NULL, "keep it, whatever its time and age" },
    { "as-is", 0, NULL, NULL, "do not look whether it is there in other words, or contradicts something" },
    LAST,
};
static const cmd_option memory_get_options[] = {
    { "user", 'u', "NAME", NULL, "only when this user sees it" },
    LAST,
};
static const cmd_option memory_keep_options[] = {
    { "pin", 0, NULL, NULL, "keep it, whatever its time and age" },
    { "unpin", 0, NULL, NULL, "no longer" },
    { "ttl", 0, "TIME", NULL, "forget it 30m, 12h, 7d from now; never takes that back" },
    { "user", 'u', "NAME", NULL, "only when it is this user's" },
    LAST,
};
static const cmd_option memory_export_options[] = {
    FILTER_OPTIONS,
    { "name", 0, "NAME", NULL, "what the collection is called; default the folder's name" },
    { "class", 0, "WORD", NULL, "your own word for it, kept as memory_class" },
    LAST,
};
static const cmd_option memory_import_options[] = {
    { "tag", 0, "TAG", NULL, "tag for every chunk; may be repeated" },
    { "user", 'u', "NAME", NULL, "whose memory; default everybody's" },
    LAST,
};
static const cmd_option memory_search_options[] = {
    FILTER_OPTIONS,
    { "mode", 0, "MODE", NULL, "graph (default), hybrid, vector or words" },
    { "bundle", 0, "DIR", NULL,
      "search what `memory export` wrote there, by meaning, and not the store; may be repeated" },
    { "limit", 'k', "N", NULL, "how many; default 10" },
    { "recall", 0, "PART", NULL,
      "part of the nearest vectors to find, 0.5 to 1, or exact; default memory.recall" },
    { "with-corrected", 0, NULL, NULL, "show what was corrected too, behind its correction" },
    { "explain", 0, NULL, NULL, "say how the vectors were searched, and why so" },
    LAST,
};
static const cmd_option memory_list_options[] = {
    FILTER_OPTIONS,
    { "limit", 'k', "N", NULL, "how many; default 50" },
    { "after", 0, "ID", NULL, "continue below this id" },
    LAST,
};
static const cmd_option memory_around_options[] = {
    FILTER_OPTIONS,
    { "hops", 0, "N", NULL, "steps; default 2, at most 8" },
    { "limit", 'k', "N", NULL, "nodes; default 50, at most 512" },
    LAST,
};
static const cmd_option memory_recall_options[] = {
    { "sample", 0, "N", NULL, "how many vectors to ask with; default 100" },
    { "limit", 'k', "K", NULL, "how many nearest; default 10" },
    LAST,
};
static const cmd_option memory_path_options[] = {
    { "hops", 0, "N", NULL, "longest way; default 6, at most 16" },
    { "user", 'u', "NAME", NULL, "through what this user sees" },
    LAST,
};
static const cmd_option memory_rm_options[] = { FILTER_OPTIONS, LAST };
static const cmd_option memory_link_options[] = {
    { "type", 0, "TYPE", NULL,
      "cites, follows, same_topic, agent_step, derived, contains, corrects or a name of your own; default "
      "same_topic" },
    { "weight", 0, "W", NULL, "0 to 1; default 1" },
    { "user", 'u', "NAME", NULL, "only between nodes that this user sees" },
    LAST,
};
static const cmd_option eval_perplexity_options[] = { LORA_OPTION, ENGINE_OPTIONS, LAST };
static const cmd_option eval_logits_options[] = {
    { "ids", 0, "LIST", NULL, "token ids, 1,2,3" },
    { "out", 'o', "FILE", NULL, "where the float32 rows go" },
    { "from", 0, "P", NULL, "first position that is wanted; default 0" },
    { "chunk", 0, "N", NULL, "feed the prompt N tokens at a time; default whole" },
    LORA_OPTION,
    ENGINE_OPTIONS,
    LAST,
};
static const cmd_option eval_dequant_options[] = {
    { "rows", 0, "N", NULL, "how many rows from the first; default all" },
    { "out", 'o', "FILE", NULL, "where the float32 rows go" },
    LAST,
};
static const cmd_option eval_tokenize_options[] = {
    { "jsonl", 0, NULL, NULL, "lines {\"text\"} in, {\"ids\"} out (the only form there is)" },
    { "bos", 0, NULL, NULL, "put the begin token first when the model has one" },
    { "no-special", 0, NULL, NULL, "control texts are ordinary text" },
    LAST,
};
static const cmd_option jsonl_options[] = {
    { "jsonl", 0, NULL, NULL, "JSON lines in and out (the only form there is)" },
    LAST,
};
static const cmd_option eval_qa_options[] = {
    { "jsonl", 0, NULL, NULL, "JSON lines in (the only form there is)" },
    { "out", 'o', "FILE", NULL, "every question's answer as JSON lines" },
    { "max-tokens", 'n', "N", NULL, "longest answer; default 64" },
    LORA_OPTION,
    ENGINE_OPTIONS,
    LAST,
};
static const cmd_option eval_judge_options[] = {
    { "model", 'm', "NAME", NULL, "model that judges; default the configured one" },
    { "limit", 0, "N", NULL, "only so many pairs of each set" },
    { "keep", 0, NULL, NULL, "what was measured decides from now on what the judge's word weighs here" },
    LAST,
};
static const cmd_option learn_attention_options[] = {
    { "seed", 0, "N", NULL, "same seed, same result; default 1" },
    LAST,
};
static const cmd_option eval_retrieval_options[] = {
    { "docs", 0, "FILE", NULL, "documents, lines {\"id\", \"text\"}" },
    { "queries", 0, "FILE", NULL, "questions, lines {\"id\", \"q\", \"rel\": [document ids]}" },
    { "part", 0, "NAME", NULL, "only questions whose \"part\" is this" },
    { "cat", 0, "N", NULL, "only questions whose \"cat\" is this" },
    { "mode", 0, "MODE", NULL, "attend, graph, hybrid, vector or words; default all but attend" },
    { "embedder", 0, "NAME", "embedding.model", "embedder; default as configured" },
    { "run", 0, "FILE", NULL, "the ranking in TREC form" },
    LAST,
};
static const cmd_option adapter_train_options[] = {
    { "data", 0, "FILE", NULL, "rows {\"prompt\" or \"messages\", \"answer\"} as JSON lines" },
    { "out", 'o', "FILE", NULL, "where the adapter goes (GGUF); FILE.ckpt while it is trained" },
    { "model", 'm', "NAME", NULL, "model it is for: tier, name or file; default the configured one" },
    { "rank", 'r', "N", NULL, "of the factors; default 8" },
    { "steps", 0, "N", NULL, "default 200" },
    { "batch", 0, "N", NULL, "rows of a step; default 8" },
    { "rate", 0, "X", NULL, "highest learning rate; default 0.003" },
    { "held-out", 0, "SHARE", NULL, "of the rows, for measuring only; default 0.1" },
    { "row-tokens", 0, "N", NULL, "longest row that is taken; default 1024" },
    { "seed", 0, "N", NULL, "same seed, same adapter" },
    { "threads", 't', "N", NULL, "compute threads" },
    LAST,
};
#define WHOSE_OPTIONS                                                                                        \
    { "model", 'm', "NAME", NULL, "model it is for: tier, name or file; default the configured one" },       \
    {                                                                                                        \
        "user", 'u', "NAME", NULL, "whose; default everybody's"                                              \
    }
static const cmd_option adapter_options[] = { WHOSE_OPTIONS, LAST };
static const cmd_option adapter_export_options[] = {
    { "out", 'o', "DIR", NULL, "folder for adapter_model.safetensors and adapter_config.json" },
    { "model", 'm', "NAME", NULL, "model it is for: tier, name or file; default the configured one" },
    LAST,
};
static const cmd_option learn_run_options[] = {
    { "deep", 0, NULL, NULL, "the deep loop, which takes minutes" },
    WHOSE_OPTIONS,
    { "rank", 'r', "N", NULL, "of a first adapter; default 16" },
    { "seconds", 0, "N", NULL, "of training at most; default 10" },
    { "seed", 0, "N", NULL, "of the random numbers" },
    { "threads", 't', "N", NULL, "compute threads" },
    LAST,
};
static const cmd_option bench_llm_options[] = {
    { "prompt", 'p', "N", NULL, "prompt tokens; default 512" },
    { "gen", 'n', "N", NULL, "generated tokens; default 128" },
    { "depth", 'd', "N", NULL, "both behind so many tokens; default 0" },
    { "repeat", 'r', "N", NULL, "runs of each; default 5, the median counts" },
    ENGINE_OPTIONS,
    LAST,
};

static const cmd_option bench_loop_options[] = {
    { "requests", 'n', "N", NULL, "default 1000" },
    LAST,
};
static const cmd_option bench_ann_options[] = {
    { "base", 0, "FILE", NULL, "vectors to find, fvecs" },
    { "queries", 0, "FILE", NULL, "vectors to ask for, fvecs" },
    { "truth", 0, "FILE", NULL, "ids of the true nearest, ivecs; -1 where there are fewer" },
    { "index", 0, "KIND", NULL, "flat, hnsw, rabitq or pq; default hnsw" },
    { "metric", 0, "NAME", NULL, "l2 (default), cos or ip" },
    { "ef", 0, "LIST", NULL, "breadths to measure, or lists to look into; 16,32,...,512 or 1,2,...,128" },
    { "M", 0, "N", NULL, "hnsw: links a row makes; default 32" },
    { "efc", 0, "N", NULL, "hnsw: breadth while building; default 200" },
    { "lists", 0, "N", NULL, "rabitq: lists; default by the number of vectors" },
    { "bits", 0, "N", NULL, "of a code and dimension: rabitq 1 (default) to 8, pq 1, 2 (default) or 4" },
    { "rotation", 0, "NAME", NULL, "before vectors become codes: hadamard (default) or haar" },
    { "rerank", 0, "N", NULL, "candidates compared by their own vectors; default by the index" },
    { "keep", 0, "TYPE", NULL, "type those are kept as: f32 (default), bf16, or file: left where they are" },
    { "attr", 0, "FILE", NULL, "a 32-bit number for each vector, and" },
    { "below", 0, "N", NULL, "only those whose number is less may be found; truth knows that" },
    { "saved", 0, "FILE", NULL, "build once: the index is saved there, or opened from there" },
    { "mapped", 0, NULL, NULL,
      "leave an index that was opened in its file, as a start of the program would" },
    { "k", 'k', "N", NULL, "how many to find; default 10" },
    { "threads", 't', "N", NULL, "threads that build, and that ask one query at a time each; default 1" },
    { "seed", 0, "N", NULL, "of the index; default 0" },
    LAST,
};

const cmd cmd_table[] = {
    { "run", "MODEL [PROMPT]", 1, 2, cmd_run, run_options, "generate from a model file or name",
      "Without PROMPT a terminal gets a conversation; otherwise the prompt is read from standard input.\n\n"
      "  ruvllm run ./lfm2-350m.gguf 'Write a haiku about C.'\n"
      "  git diff | ruvllm run 1.2b --system 'Summarise this change.'" },
    { "chat", "", 0, 0, cmd_chat, loop_options, "talk to the whole loop: memory, routing, learning",
      "Inside: /good or /bad rates the last answer, /correct TEXT says what it should have been,\n"
      "/remember TEXT adds a note, /sources shows what answers stand on, beginning with the last, /new "
      "starts "
      "a new\n"
      "conversation, /bye ends. On a terminal a statement (\"My bike is in the shed.\") is remembered too; "
      "/ask TEXT asks the\n"
      "model all the same. From a pipe every line is a question, or one of these commands." },
    { "query", "TEXT", 1, 1, cmd_query, loop_options, "one question through the whole loop",
      "The answer goes to standard output; what it stands on, the times and the id of the request go to "
      "standard error.\n\n"
      "  ruvllm query 'When does the library open?'\n"
      "  ruvllm query --json --session work 'And on Sundays?'" },
    { "feedback", "REQUEST", 1, 1, cmd_feedback, feedback_options, "rate or correct an answer",
      "  ruvllm feedback 3f0c... --rating 2 --correction 'It opens at 10:00.'" },
    { "forget", "[ID...]", 0, 1024, cmd_forget, forget_options,
      "remove memories, or a user, from everywhere, and what was learned from them",
      "Takes along every question whose answer had them in view, with its feedback and its record; goes back "
      "to versions of\n"
      "router, adapters and orders from before; then writes the files anew, so that no byte of the texts is "
      "left.\n\n"
      "  ruvllm forget 17\n  ruvllm forget --user anna" },
    { "serve", "", 0, 0, cmd_serve, serve_options, "answer over HTTP: OpenAI's API and the loop",
      "Ends on SIGTERM or Ctrl-C after the running answers are done; a second signal ends at once." },
    { "init", "", 0, 0, cmd_init, NULL, "make a data folder and a configuration to edit", NULL },
    { "config check", "[FILE]", 0, 1, cmd_config_check, NULL, "validate a configuration",
      "Exit code 0: it is well made; files and models that it names and that are not on this machine are "
      "said, "
      "`ruvllm doctor`\n"
      "counts them as faults. 2: it is not, and nothing reads it." },
    { "config show", "", 0, 0, cmd_config_show, config_show_options, "print the configuration in force",
      NULL },
    { "router train", "", 0, 0, cmd_router_train, router_train_options,
      "learn which tier answers rightly, and report on test rows",
      "Learns from rows with \"split\": \"train\" alone; what it reports is measured on the others.\n\n"
      "  ruvllm router train --data routing.jsonl --tiers small,large --out router_weights.bin" },
    { "router score", "", 0, 0, cmd_router_score, router_score_options,
      "probability of a right answer per tier, for prompts", NULL },
    { "router eval", "", 0, 0, cmd_router_eval, router_eval_options,
      "measure weights on rows with known outcomes", NULL },
    { "router explain", "TEXT", 1, 1, cmd_router_explain, router_explain_options,
      "which features and past requests decide where a question goes", NULL },
    { "router stats", "", 0, 0, cmd_router_stats, router_stats_options,
      "what the last requests were routed to, and how that went", NULL },
    { "router learn", "", 0, 0, cmd_router_learn, NULL, "learn to route from the rated requests, now",
      "What was learned is used only when it beats the version in use on requests that it has not seen. A "
      "running\n"
      "server does this by itself." },
    { "learn run", "", 0, 0, cmd_learn_run, learn_run_options,
      "learn from what was asked, answered and said about it, now",
      "Runs the background loop, which a server runs by itself every hour: answers that nobody rated are "
      "judged; router, order of\n"
      "passages, adapters (if they are on) and patterns learn, at most 10 seconds. With --deep the weekly "
      "one. A run that was cut short goes on\n"
      "where it was. `learn status` shows what each stage did.\n\n"
      "With --model or --user it trains the adapter of that model and user alone, from the corrections so "
      "far.\n"
      "What was trained is used only when it is better on wordings of the corrected questions that it was "
      "not trained on, and\n"
      "when answers that nobody complained about have not changed for the worse. `adapter rollback` undoes "
      "it." },
    { "learn attention", "", 0, 0, cmd_learn_attention, learn_attention_options,
      "learn from feedback which passages to put first",
      "Every question that was rated 4 or 5, or corrected, is asked of the memory again. What was learned is "
      "used when it\n"
      "ranks questions that were held back better; `learn rollback attention` undoes it." },
    { "learn status", "", 0, 0, cmd_learn_status, NULL,
      "what each stage of the loops did last, and the versions of what was learned: measured how, accepted "
      "or refused",
      NULL },
    { "learn rollback", "[KIND]", 0, 1, cmd_learn_rollback, NULL, "take the version before back into use",
      "KIND is router (when none is given), retrieval, attention, patterns, concepts, dreams or sides.\n\n"
      "  ruvllm learn rollback attention" },
    { "list", "", 0, 0, cmd_list, NULL, "models that can be used", NULL },
    { "ps", "", 0, 0, cmd_ps, ps_options, "models that a running server has in memory", NULL },
    { "show", "FILE", 1, 1, cmd_show, NULL, "check a model file completely and print what it is",
      "Looks at everything a run would need: shapes, tokens, merges, finite scales. Refuses with one "
      "sentence." },
    { "embed", "TEXT", 1, 1, cmd_embed, embed_options, "print the vector of a text", NULL },
    { "memory add", "[TEXT]", 0, 1, cmd_memory_add, memory_add_options, "remember a text",
      "Without TEXT it is read from standard input. What is there in other words is not added again. What "
      "contradicts a text (one number or one `not` is "
      "different) corrects it:\n"
      "both are kept, the new one is found.\n\n"
      "  ruvllm memory add 'The workshop closes at six.' --tag hours" },
    { "memory import", "PATH...", 1, 1024, cmd_memory_import, memory_import_options,
      "read .txt, .md, .html, .pdf and .jsonl files, folders, or what export wrote",
      "An unchanged file adds nothing; a changed one replaces what it had. A line {\"text\": ...} of .jsonl "
      "becomes a note. What\n"
      "`memory export` wrote comes back as it was, into an empty store. Interrupted, the same command goes "
      "on.\n\n"
      "  ruvllm memory import ~/notes --tag notes\n"
      "  ruvllm memory import backup --data new" },
    { "memory export", "DIR", 1, 1, cmd_memory_export, memory_export_options,
      "write everything, or what passes a filter, as files with a witness",
      "Lines of JSON and vectors (fvecs) that `memory import` reads back without loss and `memory search "
      "--bundle` searches as they\n"
      "are. A bundle that is in DIR is replaced in one step.\n\n"
      "  ruvllm memory export backup\n"
      "  ruvllm memory export /srv/handbook --tag handbook --name handbook" },
    { "memory keep", "ID...", 1, 1024, cmd_memory_keep, memory_keep_options,
      "pin nodes, or say when they end", "  ruvllm memory keep 17 --pin\n  ruvllm memory keep 18 --ttl 7d" },
    { "memory search", "TEXT", 1, 1, cmd_memory_search, memory_search_options, "find what is remembered",
      NULL },
    { "memory get", "ID", 1, 1, cmd_memory_get, memory_get_options, "one node with its links", NULL },
    { "memory list", "", 0, 0, cmd_memory_list, memory_list_options, "newest first", NULL },
    { "memory rm", "[ID...]", 0, 1024, cmd_memory_rm, memory_rm_options, "forget by id or by filter",
      "A document takes its chunks along. Without an id at least one filter is needed; with both only what "
      "passes the filter goes.\n\n"
      "  ruvllm memory rm 17\n  ruvllm memory rm --user anna --type note" },
    { "memory link", "FROM TO", 2, 2, cmd_memory_link, memory_link_options, "connect two nodes", NULL },
    { "memory around", "ID", 1, 1, cmd_memory_around, memory_around_options, "what a node is joined with",
      "Goes along edges in both directions, the heaviest first.\n\n"
      "  ruvllm memory around 17 --hops 1" },
    { "memory path", "FROM TO", 2, 2, cmd_memory_path, memory_path_options,
      "a shortest way between two nodes", NULL },
    { "memory stats", "", 0, 0, cmd_memory_stats, NULL, "how much is remembered", NULL },
    { "memory recall", "", 0, 0, cmd_memory_recall, memory_recall_options,
      "how much of the nearest the vector search finds, on this store",
      "Asks with the store's own vectors and compares with looking at all of them." },
    { "memory reembed", "", 0, 0, cmd_memory_reembed, embed_options,
      "make all vectors anew with the embedder that is configured now",
      "Texts, words and edges stay as they are. Cut short, it is done again." },
    { "memory check", "", 0, 0, cmd_memory_check, NULL,
      "verify database, words, vectors and graph against each other", NULL },
    { "memory compact", "", 0, 0, cmd_memory_compact, NULL,
      "give the room of what was removed back to the disk",
      "Overwrites the vectors of removed memories, writes the database anew, copies files of vectors of "
      "which a "
      "quarter or more is\n"
      "dead, and makes the indexes again. Needs as much free space as the database takes. `learn run --deep` "
      "does "
      "it too. Interrupted,\n"
      "the same command goes on." },
    { "witness show", "REQUEST", 1, 1, cmd_witness_show, NULL, "what was recorded about a request", NULL },
    { "witness verify", "", 0, 0, cmd_witness_verify, NULL, "walk the hash chain of everything recorded",
      NULL },
    { "adapter train", "", 0, 0, cmd_adapter_train, adapter_train_options,
      "train an adapter on questions and answers",
      "The loss is that of the answers' tokens. Interrupted, or killed, the same command goes on from its "
      "last checkpoint.\n"
      "The file is what llama.cpp takes as --lora, and `ruvllm run --lora`.\n\n"
      "  ruvllm adapter train --data answers.jsonl --model 350m --out style.gguf" },
    { "adapter list", "", 0, 0, cmd_adapter_list, NULL, "versions of adapters, newest first; * is in use",
      NULL },
    { "adapter load", "FILE", 1, 1, cmd_adapter_load, adapter_options, "use an adapter file from now on",
      NULL },
    { "adapter unload", "", 0, 0, cmd_adapter_unload, adapter_options, "use none from now on", NULL },
    { "adapter rollback", "", 0, 0, cmd_adapter_rollback, adapter_options, "go back to the version before",
      NULL },
    { "adapter export", "ID|FILE", 1, 1, cmd_adapter_export, adapter_export_options,
      "write an adapter for PEFT", NULL },
    { "eval logits", "MODEL", 1, 1, cmd_eval_logits, eval_logits_options, "raw logits of a prompt as float32",
      NULL },
    { "eval dequant", "MODEL TENSOR", 2, 2, cmd_eval_dequant, eval_dequant_options,
      "rows of a tensor as float32", NULL },
    { "eval tokenize", "MODEL", 1, 1, cmd_eval_tokenize, eval_tokenize_options, "token ids of texts", NULL },
    { "eval detokenize", "MODEL", 1, 1, cmd_eval_detokenize, jsonl_options, "texts of token ids", NULL },
    { "eval chat", "MODEL", 1, 1, cmd_eval_chat, jsonl_options, "prompt and ids of conversations", NULL },
    { "eval perplexity", "MODEL FILE", 2, 2, cmd_eval_perplexity, eval_perplexity_options,
      "how well a model predicts a text", NULL },
    { "eval qa", "MODEL [FILE]", 1, 2, cmd_eval_qa, eval_qa_options, "exact match of answers, per cell",
      "Lines {\"prompt\" or \"messages\", \"answer\", \"cell\"} from FILE or standard input; greedy." },
    { "eval judge", "FOLDER", 1, 1, cmd_eval_judge, eval_judge_options,
      "how often judges of answers agree with people",
      "FOLDER holds pandalm.jsonl and llmbar.jsonl, lines {\"instruction\", \"input\"?, \"a\", \"b\", "
      "\"label\"}: 1 when people found a\n"
      "better, 2 b, 0 neither. A judge that is right on fewer than 70 % of PandaLM's pairs never weighs more "
      "in learning\n"
      "than knowing nothing." },
    { "eval retrieval", "", 0, 0, cmd_eval_retrieval, eval_retrieval_options,
      "recall, MRR and nDCG of the memory on given questions",
      "The documents go into a store of their own, which is removed at the end. A question with \"scope\" is "
      "searched\n"
      "among the documents whose ids begin with it and a slash.\n"
      "The mode attend trains graph attention and is cross-validated: every question is ranked by weights "
      "that saw\n"
      "neither it nor anything of its scope.\n\n"
      "  ruvllm eval retrieval --docs notes.docs.jsonl --queries notes.queries.jsonl --mode hybrid" },
    { "bench llm", "MODEL", 1, 1, cmd_bench_llm, bench_llm_options, "prefill and decode speed as JSON lines",
      NULL },
    { "bench loop", "", 0, 0, cmd_bench_loop, bench_loop_options,
      "time of every stage of a request but generation",
      "Asks the memory of the data folder for words of its own texts. Generation is left out.\n\n"
      "  ruvllm bench loop --requests 1000" },
    { "bench ann", "", 0, 0, cmd_bench_ann, bench_ann_options,
      "recall and speed of a vector index as JSON lines",
      "Builds the index, saves and opens it once, then asks every query at each breadth. qps is per CPU "
      "second with one "
      "thread.\n\n"
      "  ruvllm bench ann --base base.fvecs --queries query.fvecs --truth gt.ivecs --index hnsw --ef 32,64" },
    { "doctor", "", 0, 0, cmd_doctor, NULL, "look at machine, models, configuration and data",
      "Exit code 0: fine; 1: warnings; 2: faults." },
    { "completion", "SHELL", 1, 1, cmd_completion, NULL, "completions for bash, zsh or fish",
      "  ruvllm completion bash > ~/.local/share/bash-completion/completions/ruvllm" },
    { "man", "", 0, 0, cmd_man, NULL, "the manual page, as mdoc", "  ruvllm man | man -l -" },
    { "version", "", 0, 0, cmd_version, NULL, "version, compiler and CPU level", NULL },
    { NULL, NULL, 0, 0, NULL, NULL, NULL, NULL },
};
