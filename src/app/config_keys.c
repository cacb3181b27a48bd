/* Every key there is. Help, `config show`, the environment's names and all checks are made from this table. `later` marks
 * what is accepted and checked so that a complete file can be written today, while the part it steers is not there yet. */
#include "app/config.h"

#define now   true, false
#define later false, false

#define INT(section, name, low, high, built_in, when, help)                                                  \
    {                                                                                                        \
        section, name, RV_CONFIG_INT, low, high, NULL, built_in, help, when                                  \
    }
#define FLOAT(section, name, low, high, built_in, when, help)                                                \
    {                                                                                                        \
        section, name, RV_CONFIG_FLOAT, low, high, NULL, built_in, help, when                                \
    }
#define BOOL(section, name, built_in, when, help)                                                            \
    {                                                                                                        \
        section, name, RV_CONFIG_BOOL, 0, 0, NULL, built_in, help, when                                      \
    }
#define CHOICE(section, name, choices, built_in, when, help)                                                 \
    {                                                                                                        \
        section, name, RV_CONFIG_CHOICE, 0, 0, choices, built_in, help, when                                 \
    }
#define LIST(section, name, choices, built_in, when, help)                                                   \
    {                                                                                                        \
        section, name, RV_CONFIG_LIST, 0, 0, choices, built_in, help, when                                   \
    }
#define TEXT(section, name, type, built_in, when, help)                                                      \
    {                                                                                                        \
        section, name, RV_CONFIG_##type, 0, 0, NULL, built_in, help, when                                    \
    }

const rv_config_key rv_config_keys[] = {
    CHOICE("system", "device_class", "edge|server|gpu", "server", later, "kind of machine this is"),
    TEXT("system", "data_dir", PATH, NULL, now,
         "folder of database, vectors and models; unset: $XDG_DATA_HOME/ruvllm"),
    INT("system", "max_memory_mb", 64, 16777216, "8192", later, "memory the whole program may use"),
    INT("system", "max_concurrent_requests", 1, 256, "10", now,
        "requests in the loop at once (worker threads, at most 64 of them)"),
    CHOICE("system", "log_level", "error|warn|info|debug", "info", now, "what is logged to stderr"),
    CHOICE("system", "log_format", "logfmt|json", "logfmt", now, "form of a log line"),

    TEXT("server", "listen", ADDRESS, "127.0.0.1", now, "address to listen on"),
    { "server", "port", RV_CONFIG_INT, 1, 65535, NULL, "8080", "port to listen on; --port 0 picks a free one",
      true, true },
    INT("server", "max_connections", 1, 100000, "256", now, "open connections"),
    INT("server", "max_body_bytes", 1024, 1073741824, "8388608", now, "largest request body"),
    INT("server", "request_timeout_ms", 100, 3600000, "30000", now,
        "time a client has to send its whole request"),
    INT("server", "max_queue", 1, 100000, "64", now,
        "requests waiting for a worker; past it 503 and Retry-After"),
    INT("server", "drain_ms", 0, 3600000, "30000", now, "time running answers have to finish at shutdown"),
    BOOL("server", "insecure", "false", now, "listen beyond this machine without API keys"),
    TEXT("server", "api_keys_file", PATH, NULL, now,
         "file of lines NAME KEY; one of these keys has to come with every request but for health; unset: "
         "none is asked for"),
    TEXT("server", "tls_cert", PATH, NULL, later, "certificate chain (PEM)"),
    TEXT("server", "tls_key", PATH, NULL, later, "private key (PEM)"),

    TEXT("tiers", "350m", MODEL, NULL, now,
         "model of the smallest tier: file or name; unset: the demo model xs"),
    TEXT("tiers", "700m", MODEL, NULL, now, "model of the second tier; unset: the demo model s"),
    TEXT("tiers", "1.2b", MODEL, NULL, now, "model of the third tier; unset: the demo model m"),
    TEXT("tiers", "2.6b", MODEL, NULL, now, "model of the largest tier; unset: the demo model l"),

    TEXT("inference", "model", MODEL, NULL, now,
         "model that answers by default: tier, name or file; unset: the largest tier"),
    LIST("inference", "models", "350m|700m|1.2b|2.6b", "350m,700m,1.2b,2.6b", now, "tiers in use"),
    CHOICE("inference", "quantization", "f32|f16|fp16|bf16|q8_0|q6_k|q5_k|q4_k|q4_0", "q4_k", later,
           "weights a download should prefer"),
    INT("inference", "max_context", 64, 1048576, "4096", now,
        "tokens one conversation may hold, at most the model's"),
    INT("inference", "threads", 0, 256, "0", now, "compute threads; 0: one per processor"),
    INT("inference", "max_loaded_models", 1, 64, "4", now, "models in memory at once"),
    INT("inference", "load_wait_ms", 0, 3600000, "20000", now,
        "how long a request waits for its model to be loaded before 503 and Retry-After; 0: as long as it "
        "takes"),
    BOOL("inference", "warm_start", "false", now,
         "the server loads the default model at its start, not at first use"),
    CHOICE("inference", "kv_type", "f16|f32|q8|q4", "f16", now,
           "numbers in the key/value cache; q8 and q4: of all but the last tokens"),
    CHOICE("inference", "packing", "file|memory|off", "file", now,
           "weights in the layout of this CPU: kept in the cache folder for the next start, made at each "
           "start, or "
           "not made (least memory, many times slower)"),
    CHOICE("inference", "drafts", "auto|off", "auto", now,
           "guess tokens from the text and check several at once where it is faster; the text is the same"),
    CHOICE("inference", "draft_model", "auto|off|350m|700m|1.2b|2.6b", "auto", now,
           "tier that guesses for larger ones of the same vocabulary where it is faster; the text is the "
           "same. auto: the "
           "smallest in memory; a tier is loaded for it"),
    INT("inference", "pool_mb", 0, 16777216, "0", now,
        "memory of all conversations together, of all models; 0: two contexts for each model"),
    INT("inference", "kv_disk_mb", 0, 16777216, "2048", now,
        "conversations kept in DATA/kv for their next request; 0: none"),
    INT("inference", "kv_cache_size", 1, 10000000, "1000", later, "pages of key/value cache"),
    BOOL("inference", "use_vllm", "false", later, "generate on a vLLM server"),
    INT("inference", "tensor_parallel", 1, 64, "1", later, "accelerators one model is split over"),

    TEXT("embedding", "model", STRING, "auto", now,
         "embedder: hash, static (embedder.rvemb of the models), a file, or auto: static if it is there, "
         "else hash"),
    INT("embedding", "dimension", 1, 65536, "384", later,
        "dimension of the vectors; today the embedder's own"),
    INT("embedding", "max_tokens", 1, 1048576, "512", later, "tokens of a text that are looked at"),
    INT("embedding", "batch_size", 1, 4096, "8", later, "texts embedded at once"),

    INT("memory", "dimension", 1, 65536, "384", later, "dimension of the index; today the embedder's own"),
    CHOICE("memory", "index", "auto|flat|hnsw|rabitq|both", "auto", now,
           "vector index: auto is rabitq to 500,000 vectors, then hnsw; flat is none: all are compared"),
    FLOAT("memory", "recall", 0.5, 1, "0.99", now,
          "part of the nearest vectors that a search has to find, on average; 1: exactly all"),
    INT("memory", "index_from", 1, 1000000000, "1024", now, "vectors from which on there is an index"),
    INT("memory", "hnsw_m", 2, 256, "32", now,
        "links of a vector in the index; not set: 16 to 64, by their number"),
    INT("memory", "hnsw_ef_construction", 4, 65536, "200", now,
        "breadth while building the index; not set: 100 to 400, by the number of vectors"),
    INT("memory", "hnsw_ef_search", 1, 65536, "64", now,
        "least breadth while searching the index; not set: the narrowest that finds the part asked for"),
    INT("memory", "max_nodes", 1, 10000000000.0, "10000000", later, "nodes the memory may hold"),
    INT("memory", "max_graph_hops", 0, 16, "2", later, "edges followed from what was found"),
    INT("memory", "writeback_batch_size", 1, 1000, "100", now, "counts of use that are written together"),
    INT("memory", "writeback_interval_ms", 0, 3600000, "1000", now, "longest wait of one of them"),
    FLOAT("memory", "half_life_days", 0, 36500, "0", now,
          "age at which what is not used has lost half of what age can take from its score, a half; 0: "
          "nothing fades"),

    INT("router", "input_dim", 1, 65536, "128", later, "features of a request"),
    INT("router", "hidden_dim", 1, 65536, "64", later, "size of the router's state"),
    FLOAT("router", "sparsity", 0, 1, "0.9", later, "share of the router's weights that are zero"),
    INT("router", "rank", 1, 1024, "8", later, "rank of its low-rank part"),
    FLOAT("router", "confidence_threshold", 0, 1, "0.7", now, "below it the default model answers"),
    FLOAT("router", "cost_share", 0.01, 1, "0.4", now,
          "cost its decisions and drafts may have, as a share of always taking the largest tier"),
    FLOAT("router", "explore", 0, 1, "0.01", now,
          "least share of rated requests that other tiers are asked too; 0: never"),
    BOOL("router", "cascade", "true", now,
         "a larger tier answers again when the answer was not sure of itself"),
    TEXT("router", "weights_path", PATH, NULL, now, "weights to route with instead of those learned here"),

    INT("attention", "max_sources", 1, 8, "5", now, "passages given to the model"),
    INT("attention", "num_heads", 1, 256, "8", later, "heads of the graph attention"),
    INT("attention", "head_dim", 1, 4096, "96", later, "size of a head"),
    INT("attention", "num_layers", 1, 64, "2", later, "layers of the graph attention"),
    FLOAT("attention", "dropout", 0, 1, "0", later, "dropped while training"),
    FLOAT("attention", "distance_decay", 0, 1, "0.5", later, "weight lost per edge"),
    INT("attention", "edge_dim", 1, 4096, "32", later, "features of an edge"),

    BOOL("learning", "enabled", "true", now, "keep episodes, so that feedback can be given and learnt from"),
    INT("learning", "feedback_per_day", 0, 1000000000, "10000", now,
        "feedback taken from one API key in a day (UTC), and from all who have none together; then 429; 0: "
        "no limit"),
    INT("learning", "archive_days", 0, 36500, "7", now,
        "age in days from which the deep loop moves records and spent answers to DATA/archive"),
    BOOL("learning", "adapters", "false", now,
         "train a user's adapter a little after each correction (server)"),
    FLOAT("learning", "quality_threshold", 0, 1, "0.75", now,
          "quality from which an answer is kept and its passages count as of use; a rating r is the quality "
          "(r - 1) / 4"),
    TEXT("learning", "judge_url", URL, NULL, now,
         "server with OpenAI's chat API that judges answers nobody rated, from the background; questions, "
         "passages and "
         "answers go there. Unset: the largest tier judges"),
    TEXT("learning", "judge_model", STRING, NULL, now, "the model that judges there"),
    INT("learning", "replay_capacity", 1, 1000000000, "100000", now,
        "rated episodes that are learned from: the newest half, and of more than fit a sample of all before; "
        "the router takes 120000 at most"),
    INT("learning", "batch_size", 1, 256, "16", now, "rows of one step of training an adapter"),
    FLOAT("learning", "learning_rate", 0.000001, 1, "0.006", now, "largest step of training an adapter"),
    FLOAT("learning", "ewc_lambda", 0, 100000, "0.1", now,
          "how strongly the deep loop holds what an adapter learned before; 0: not"),
    INT("learning", "training_interval_ms", 100, 31536000000.0, "60000", now,
        "time between two looks whether there is enough to learn from"),
    INT("learning", "min_samples", 1, 1000000000, "100", now,
        "rated episodes since the last training that begin the next one"),
    INT("learning", "compression_interval_ms", 1000, 31536000000.0, "3600000", later,
        "time between two consolidations"),

    INT("sona", "hidden_dim", 1, 65536, "64", later, "size of an adapted site"),
    INT("sona", "embedding_dim", 1, 65536, "384", later, "dimension of a trajectory's embedding"),
    INT("sona", "micro_rank", 1, 2, "2", later, "rank of the instant adapter"),
    INT("sona", "base_rank", 1, 64, "8", later, "rank of the hourly adapter"),
    FLOAT("sona", "micro_lr", 0, 1, "0.002", later, "step of the instant adapter"),
    FLOAT("sona", "base_lr", 0, 1, "0.0001", later, "step of the hourly adapter"),
    FLOAT("sona", "ewc_lambda", 0, 100000, "1", later, "weight of what was known before (normalised)"),
    INT("sona", "pattern_clusters", 1, 100000, "100", later, "clusters of the reasoning bank"),
    INT("sona", "trajectory_capacity", 1, 1000000000, "10000", later, "trajectories kept"),
    INT("sona", "background_interval_ms", 1000, 31536000000.0, "3600000", now,
        "time between two background runs"),
    FLOAT("sona", "quality_threshold", 0, 1, "0.15", later, "quality from which a trajectory teaches"),
};
const size_t rv_config_n_keys = RV_COUNT(rv_config_keys);
