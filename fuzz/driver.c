/* main() for a fuzz target without a fuzzer: runs it on files and on folders of files, one after the other. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX_BYTES = 64 << 20 };

static int die(const char *path)
{
    perror(path);
    exit(1);
}

static void run_file(const char *path, size_t n)
{
    FILE *f = fopen(path, "rb");
    if (!f || n > INPUT_MAX_BYTES) {
        die(path);
    }
    uint8_t *data = malloc(n ? n : 1); /* of exactly this size, so that a sanitizer sees one byte too many */
    if (!data || fread(data, 1, n, f) != n) {
        die(path);
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
}

static int run_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        die(path);
    }
    if (!S_ISDIR(st.st_mode)) {
        fprintf(stderr, "%s\n", path); /* the last one named is the one that failed */
        run_file(path, (size_t)st.st_size);
        return 1;
    }
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort), files = 0;
    if (n < 0) {
        die(path);
    }
    for (int i = 0; i < n; i++) {
        char inner[4096];
        if (entries[i]->d_name[0] != '.') {
            snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
            files += run_path(inner); /* as deep as the folders we keep: one */
        }
        free(entries[i]);
    }
    free(entries);
    return files;
}

/* replay_base_toml without arguments means fuzz/corpus/base_toml, seen from the repository's root. */
int main(int n_args, char **args)
{
    char corpus[4096];
    int files = 0;
    if (n_args < 2) {
        const char *name = strstr(args[0], "replay_");
        snprintf(corpus, sizeof corpus, "fuzz/corpus/%s", name ? name + strlen("replay_") : "");
        files = run_path(corpus);
    }
    for (int i = 1; i < n_args; i++) {
        files += run_path(args[i]);
    }
    printf("%d inputs\n", files);
    return 0;
}
