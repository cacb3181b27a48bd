/* doctor: looks at everything a run stands on and says what to do about what is wrong. 0 fine, 1 warnings, 2 faults. */
#include "cli/cli.h"

#include "base/json.h"

#include <string.h>
#include <sys/statvfs.h>

typedef enum finding { FINE, WARNING, FAULT } finding;

typedef struct doctor {
    const cmd_line *line;
    finding worst;
} doctor;

static void say(doctor *d, finding f, const char *what, const char *format, ...) RV_PRINTF(4, 5);
static void say(doctor *d, finding f, const char *what, const char *format, ...)
{
    static const char *const words[] = { "fine", "warning", "fault" };
    static const char *const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->worst = f > d->worst ? f : d->worst;
    if (d->line->json) {
        json_t *row = json_pack("{s:s, s:s, s:s}", "check", what, "result", words[f], "details", text);
        cmd_print(row);
    } else {
        bool colour = cmd_colour(stdout);
        printf("%s%-8s%s %-14s ", colour ? colours[f] : "", words[f], colour ? "\033[0m" : "", what);
        cmd_safe(stdout, text, strlen(text));
        putchar('\n');
    }
}

static void look_at_machine(doctor *d)
{
    const rv_kernels *best = rv_kernels_best();
    char memory[16];
    cmd_bytes(memory, rv_cpu_memory_bytes());
    int processors = rv_cpu_count();
    say(d, best->level == RV_CPU_SCALAR ? WARNING : FINE, "cpu", "%d processor%s, kernels %s%s", processors,
        processors == 1 ? "" : "s", best->name,
        best->level == RV_CPU_SCALAR ? ": slow; AVX2, AVX-512 or NEON was not found, or RV_CPU forbids it"
                                     : "");
    say(d, rv_cpu_memory_bytes() < (uint64_t)1 << 30 ? WARNING : FINE, "memory", "%s", memory);
}

static void look_at_disk(doctor *d, const char *dir)
{
    struct statvfs fs;
    if (statvfs(dir, &fs) != 0) {
        say(d, FAULT, "disk", "%s cannot be looked at", dir);
        return;
    }
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    char text[16];
    cmd_bytes(text, left);
    say(d, left < (uint64_t)1 << 28 ? WARNING : FINE, "disk", "%s free at %s", text, dir);
}

/* Without its file the embedder that is found by itself is the one that needs none. */
static void look_at_embedder(doctor *d, const rv_config *config, rv_app *app)
{
    const char *name = rv_embed_name(rv_app_pipeline(app)->embed), *folder = rv_app_models_dir(app);
    bool fell_back =
        strcmp(rv_config_string(config, "embedding.model"), "auto") == 0 && strcmp(name, "hash") == 0;
    if (fell_back) {
        say(d, WARNING, "embedder",
            "hash, which compares spelling and not meaning: no embedder.rvemb in %s; RUVLLM_MODELS names the "
            "folder that has it",
            folder ? folder : "a models folder, and no such folder");
    } else {
        say(d, FINE, "embedder", "%s", name);
    }
}

static void look_at_models(doctor *d, rv_config *config)
{
    rv_app *app = NULL;
    if (cmd_open_with(d->line, config, RV_APP_MODELS, &app)) {
        say(d, FAULT, "models", "%s", rv_err_text());
        return;
    }
    look_at_embedder(d, config, app);
    rv_backend_model models[256];
    size_t n = rv_backend_models(rv_app_pipeline(app)->backend, models, RV_COUNT(models));
    if (n == 0) {
        say(d, WARNING, "models", "none; name files under [tiers] in the configuration");
    }
    for (size_t i = 0; i < n && i < RV_COUNT(models); i++) {
        rv_lfm2_file *f = NULL;
        rv_tok *tok = NULL;
        if (rv_lfm2_file_open(&rv_heap, models[i].path, true, &f) || rv_tok_open(&rv_heap, f->gguf, &tok)) {
            say(d, FAULT, "model", "%s: %s", models[i].id, rv_err_text());
        } else {
            say(d, FINE, "model", "%s: %.3g million parameters", models[i].id,
                (double)f->shape.n_params / 1e6);
        }
        rv_tok_close(tok);
        rv_lfm2_file_close(f);
    }
    rv_app_close(app);
}

static void look_at_data(doctor *d, rv_config *config)
{
    rv_app *app = NULL;
    if (cmd_open_with(d->line, config, RV_APP_MEMORY, &app)) {
        say(d, FAULT, "data", "%s", rv_err_text());
        return;
    }
    rv_pipeline *p = rv_app_pipeline(app);
    uint64_t records = 0;
    rv_memory_stats stats;
    if (rv_db_check(p->db)) {
        say(d, FAULT, "database", "%s", rv_err_text());
    } else {
        say(d, FINE, "database", "%s", rv_db_dir(p->db));
    }
    if (rv_memory_check(p->memory) || rv_memory_get_stats(p->memory, &stats)) {
        say(d, FAULT, "memory", "%s", rv_err_text());
    } else {
        say(d, FINE, "memory", "%zu nodes, %zu edges, embedder %s", stats.nodes, stats.edges, stats.embedder);
    }
    if (rv_witness_verify(p->db, &records)) {
        say(d, FAULT, "witness", "%s", rv_err_text());
    } else {
        say(d, FINE, "witness", "%llu records, the chain is whole", (unsigned long long)records);
    }
    look_at_disk(d, rv_db_dir(p->db));
    rv_app_close(app);
}

int cmd_doctor(cmd_line *line)
{
    doctor d = { .line = line };
    rv_config *config = NULL;
    look_at_machine(&d);
    if (cmd_config(line, &config)) {
        say(&d, FAULT, "configuration", "%s", rv_err_text());
    } else {
        say(&d, FINE, "configuration", "data in %s", rv_config_data_dir(config));
        look_at_models(&d, config);
        look_at_data(&d, config);
    }
    rv_config_free(config);
    return d.worst;
}
