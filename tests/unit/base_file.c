#include "base/file.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int entries_in(const char *folder)
{
    DIR *d = opendir(folder);
    int n = -2; /* . and .. */
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

TEST(what_was_replaced_is_read_and_mapped)
{
    const char *folder = temp_dir();
    char path[4096], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/a", folder);
    CHECK(!rv_file_exists(path), "nothing there yet");
    static const char *const contents[] = { "one", "", "three three three" };
    for (size_t i = 0; i < RV_COUNT(contents); i++) {
        CHECK_OK(rv_file_replace(path, contents[i], strlen(contents[i])));
        CHECK(rv_file_exists(path) && entries_in(folder) == 1, "%d entries", entries_in(folder));
        struct stat st;
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "mode %o", st.st_mode & 0777);
        CHECK_OK(rv_file_read(&rv_heap, path, strlen(contents[i]), &text, &n));
        CHECK(n == strlen(contents[i]) && strcmp(text, contents[i]) == 0, "read %zu: %s", n, text);
        rv_free(&rv_heap, text);
        rv_map map;
        CHECK_OK(rv_file_map(path, &map));
        CHECK(map.n == n && (n == 0 || memcmp(map.at, contents[i], n) == 0), "mapped %zu", map.n);
        rv_file_unmap(&map);
        CHECK(!map.at && map.n == 0, "unmapped");
        rv_file_unmap(&map);
    }
    CHECK_OK(rv_dir_sync(folder));
}

TEST(large_and_unsized_files_are_read_whole)
{
    size_t n = 300000, got;
    char *bytes = rv_new(&rv_heap, n), *text;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    const char *path = temp_path("big");
    CHECK_OK(rv_file_replace(path, bytes, n));
    CHECK_OK(rv_file_read(&rv_heap, path, n, &text, &got));
    CHECK(got == n && memcmp(text, bytes, n) == 0 && text[n] == 0, "%zu", got);
    rv_free(&rv_heap, text);
    CHECK_ERR(rv_file_read(&rv_heap, path, n - 1, &text, &got), RV_E_TOO_LARGE);

    /* Standard input has no size: it is read in growing pieces. */
    int kept = dup(STDIN_FILENO), file = open(path, O_RDONLY);
    dup2(file, STDIN_FILENO);
    close(file);
    CHECK_OK(rv_file_read(&rv_heap, "-", n, &text, &got));
    CHECK(got == n && memcmp(text, bytes, n) == 0 && text[n] == 0, "%zu", got);
    rv_free(&rv_heap, text);
    lseek(STDIN_FILENO, 0, SEEK_SET);
    CHECK_ERR(rv_file_read(&rv_heap, "-", n - 1, &text, &got), RV_E_TOO_LARGE);
    dup2(kept, STDIN_FILENO);
    close(kept);
    rv_free(&rv_heap, bytes);

    /* /proc gives files of size 0 that are not empty. */
    CHECK_OK(rv_file_read(&rv_heap, "/proc/self/status", 1 << 20, &text, &got));
    CHECK(got > 100 && strstr(text, "Pid:"), "%zu", got);
    rv_free(&rv_heap, text);
}

TEST(what_is_no_file_is_named)
{
    const char *folder = temp_dir();
    char path[4096], *text;
    size_t n;
    rv_map map;
    CHECK_ERR(rv_file_map(folder, &map), RV_E_IO);
    CHECK(strstr(rv_err_text(), folder) && strstr(rv_err_text(), "is a folder"), "%s", rv_err_text());
    snprintf(path, sizeof path, "%s/none", folder);
    CHECK_ERR(rv_file_map(path, &map), RV_E_NOT_FOUND);
    CHECK_ERR(rv_file_read(&rv_heap, path, 10, &text, &n), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "none: cannot open: No such file"), "%s", rv_err_text());
    snprintf(path, sizeof path, "%s/pipe", folder);
    CHECK(mkfifo(path, 0600) == 0, "mkfifo");
    CHECK_ERR(rv_file_read(&rv_heap, path, 10, &text, &n), RV_E_IO); /* and does not wait for a writer */
    snprintf(path, sizeof path, "%s/pipe/x", folder);
    CHECK_ERR(rv_file_map(path, &map), RV_E_NOT_FOUND);
    snprintf(path, sizeof path, "%s/no/such/folder/x", folder);
    CHECK_ERR(rv_file_replace(path, "x", 1), RV_E_NOT_FOUND);
    CHECK_ERR(rv_dir_sync(path), RV_E_NOT_FOUND);
    CHECK_ERR(rv_file_replace(folder, "x", 1), RV_E_IO); /* a file cannot take the place of a folder */
    CHECK(entries_in(folder) == 1, "left behind: %d entries", entries_in(folder));
    char *longest = rv_new(&rv_heap, 6000);
    memset(longest, 'x', 5999);
    CHECK_ERR(rv_file_replace(longest, "x", 1), RV_E_ARG);
    memset(longest, '/', 5998);
    CHECK_ERR(rv_file_replace(longest, "x", 1), RV_E_ARG);
    CHECK_ERR(rv_dir_make(longest), RV_E_ARG);
    rv_free(&rv_heap, longest);
}

TEST(a_relative_file_is_replaced_in_this_folder)
{
    const char *folder = temp_dir();
    char here[4096];
    CHECK(getcwd(here, sizeof here) && chdir(folder) == 0, "chdir");
    rv_err e = rv_file_replace("plain", "x", 1);
    CHECK(chdir(here) == 0, "chdir back");
    CHECK_OK(e);
    CHECK(entries_in(folder) == 1, "%d", entries_in(folder));
}

TEST(folders_are_made_with_their_parents_and_private)
{
    const char *folder = temp_dir();
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/a//b/c/", folder);
    CHECK_OK(rv_dir_make(path));
    CHECK_OK(rv_dir_make(path));
    CHECK(stat(path, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700, "mode %o", st.st_mode);
    snprintf(path, sizeof path, "%s/file", folder);
    CHECK_OK(rv_file_replace(path, "x", 1));
    CHECK_ERR(rv_dir_make(path), RV_E_IO);
    CHECK(strstr(rv_err_text(), "not a folder"), "%s", rv_err_text());
    snprintf(path, sizeof path, "%s/file/x", folder);
    CHECK_ERR(rv_dir_make(path), RV_E_IO);
    CHECK_ERR(rv_dir_make(""), RV_E_ARG);
    CHECK_ERR(rv_dir_make("/proc/nothing/here"), RV_E_NOT_FOUND);
}

TEST(paths_are_joined)
{
    static const struct {
        const char *a, *b, *joined;
    } cases[] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "a", "/b", "/b" },
        { "", "b", "b" },    { "a", "", "a" },     { "/", "b", "/b" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        char *path = rv_path_join(&rv_heap, cases[i].a, cases[i].b);
        CHECK(path && strcmp(path, cases[i].joined) == 0, "%s + %s = %s", cases[i].a, cases[i].b, path);
        rv_free(&rv_heap, path);
    }
}
