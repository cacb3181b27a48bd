/* Forgetting that is cut short: killed before any of its steps, it is finished at the next start, and then no byte of what was to go
 * is left, while what others have is as it was. The program runs itself again in the role of the victim. */
#include "base/file.h"
#include "base/clock.h"
#include "learn/adapter_loop.h"
#include "learn/archive.h"
#include "learn/forget.h"
#include "learn/judge.h"
#include "memory_helpers.h"
#include "store/policy.h"
#include "store/session.h"
#include "store/witness.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char SECRET[] = "zyxomirquandt", KEPT[] = "plovdivarium";

typedef struct place {
    store s;
    rv_adapters *adapters;
    rv_forget_place how;
} place;

static rv_err place_open(const char *dir, place *p)
{
    *p = (place){ 0 };
    RV_TRY(store_open_with(&rv_heap, dir, toy, &p->s));
    RV_TRY(rv_session_setup(p->s.db));
    RV_TRY(rv_witness_setup(p->s.db));
    RV_TRY(rv_policy_setup(p->s.db));
    RV_TRY(rv_episode_setup(p->s.db));
    RV_TRY(rv_judge_setup(p->s.db));
    RV_TRY(rv_adapters_open(&rv_heap, p->s.db, NULL, &p->adapters));
    RV_TRY(rv_forget_setup(p->s.db));
    p->how = (rv_forget_place){ .db = p->s.db, .memory = p->s.m, .adapters = p->adapters };
    return RV_OK;
}

static void place_close(place *p)
{
    rv_adapters_close(p->adapters);
    store_close(&p->s);
}

/* ---- what is stored ---- */

static void request(place *p, int number, const char *user, const char *word, int64_t source)
{
    char id[40], question[96], answer[96], body[256];
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", number);
    snprintf(question, sizeof question, "what does %s say of %d?", word, number);
    snprintf(answer, sizeof answer, "the word is %s [1]", word);
    int64_t sources[] = { source };
    rv_episode e = { .request_id = id,
                     .session_id = user,
                     .user = user,
                     .question = question,
                     .answer = answer,
                     .model = "m",
                     .sources = sources,
                     .n_sources = 1,
                     .confidence = 1,
                     .created_ms = 1000 + number };
    rv_turn turn = { id, question, answer, user, 1000 + number };
    int n = snprintf(body, sizeof body, "{\"question\":\"%s\",\"answer\":\"%s\",\"sources\":[%lld]}",
                     question, answer, (long long)source);
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(p->s.db, &conn));
    CHECK_OK(rv_session_append(conn, user, &turn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_witness_append(conn, "request", id, body, (size_t)n));
    CHECK_OK(rv_db_commit(p->s.db));
    rv_feedback_done done;
    rv_feedback f = { .request_id = id,
                      .rating = number % 2 ? 5 : 0,
                      .correction = number % 2 ? NULL : word };
    CHECK_OK(rv_feedback_store(p->s.db, p->s.m, &f, &done));
}

static void version(place *p, const char *kind, int64_t parent, char byte)
{
    char bytes[64];
    memset(bytes, byte, sizeof bytes);
    int64_t got;
    sqlite3 *conn;
    rv_policy_new new = {
        .kind = kind, .parent = parent, .note = "test", .bytes = bytes, .n = sizeof bytes, .use = true
    };
    CHECK_OK(rv_db_begin(p->s.db, &conn));
    CHECK_OK(rv_policy_add(conn, &new, &got));
    CHECK_OK(rv_db_commit(p->s.db));
}

/* A version of an adapter without its training: the rows and a file. */
static void adapter(place *p, int64_t id, int64_t parent, const char *user)
{
    char path[4200];
    sqlite3 *conn;
    snprintf(path, sizeof path, "%s/adapters/%lld.gguf", rv_db_dir(p->s.db), (long long)id);
    const char *learned = strcmp(user, "anna") == 0 ? SECRET : KEPT;
    CHECK_OK(rv_file_replace(path, learned, strlen(learned)));
    CHECK_OK(rv_db_begin(p->s.db, &conn));
    CHECK_OK(rv_db_exec(
        conn, "INSERT INTO adapter VALUES (?1, ?2, '0000000000000007', ?3, 'learn', 1, 0, 0, ?1, 0)", "iit",
        id, parent, user));
    CHECK_OK(rv_db_exec(
        conn,
        "INSERT INTO adapter_use VALUES ('0000000000000007', ?1, ?2) ON CONFLICT DO UPDATE SET adapter = ?2",
        "ti", user, id));
    CHECK_OK(rv_db_commit(p->s.db));
}

static int64_t note(place *p, const char *user, const char *word)
{
    char text[96];
    int64_t id;
    bool added;
    snprintf(text, sizeof text, "%s keeps the word %s", user, word);
    rv_memory_new new = { .type = "note", .text = text };
    CHECK_OK(rv_memory_add(p->s.m, rv_memory_of(user), &new, &id, &added));
    return id;
}

/* Before: versions from before anything was said; and those of after. Returns the note of anna. */
static int64_t fill(const char *dir)
{
    place p;
    CHECK_OK(place_open(dir, &p));
    version(&p, "router", 0, 'a');
    version(&p, "patterns", 0, 'a');
    usleep(3000);
    adapter(&p, 500, 0, "bert"); /* made at 500 ms: before the first question */
    int64_t of_bert = note(&p, "bert", KEPT), of_anna = note(&p, "anna", SECRET),
            removed = note(&p, "anna", "zyxomirquandt before");
    size_t n;
    CHECK_OK(rv_memory_rm(p.s.m, rv_memory_whole(), removed, NULL, &n));
    for (int i = 0; i < 6; i++) {
        request(&p, i, i < 4 ? "anna" : "bert", i < 4 ? SECRET : KEPT, i < 4 ? of_anna : of_bert);
    }
    version(&p, "router", 1, 'b');
    version(&p, "router", 2, 'c');
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(
        p.s.db,
        &conn)); /* the episodes say that they are of 1970; the versions have to be from before and after */
    CHECK_OK(rv_db_exec(
        conn, "UPDATE policy SET created_ms = CASE version WHEN 1 THEN 10 ELSE created_ms END", ""));
    CHECK_OK(rv_db_commit(p.s.db));
    adapter(&p, 2000, 0, "anna");
    adapter(&p, 2001, 2000, "anna");
    place_close(&p);
    return of_anna;
}

/* ---- what is left ---- */

static bool holds(const char *at, size_t n, const char *word)
{
    size_t w = strlen(word);
    for (size_t i = 0; i + w <= n; i++) {
        size_t k = 0;
        while (k < w && (at[i + k] | 32) == word[k]) {
            k++;
        }
        if (k == w) {
            return true;
        }
    }
    return false;
}

static size_t files_with(const char *dir, const char *word)
{
    size_t n = 0;
    DIR *folder = opendir(dir);
    CHECK(folder, "%s", dir);
    for (const struct dirent *e; (e = readdir(folder));) {
        char *bytes = NULL, *path = rv_path_join(&rv_heap, dir, e->d_name);
        size_t size = 0;
        if (e->d_type == DT_DIR && e->d_name[0] != '.') {
            n += files_with(path, word);
        } else if (e->d_type == DT_REG) {
            CHECK_OK(rv_file_read(&rv_heap, path, 1 << 26, &bytes, &size));
            n += holds(bytes, size, word);
        }
        rv_free(&rv_heap, bytes);
        rv_free(&rv_heap, path);
    }
    closedir(folder);
    return n;
}

static int64_t number_of(place *p, const char *sql)
{
    int64_t out = -1;
    sqlite3 *conn;
    CHECK_OK(rv_db_reader(p->s.db, &conn));
    CHECK_OK(rv_db_int(conn, &out, sql, ""));
    rv_db_reader_done(p->s.db, conn);
    return out;
}

static void check_forgotten(const char *dir, place *p, const char *when)
{
    uint64_t count;
    CHECK(files_with(dir, SECRET) == 0, "%s: %zu files hold it", when, files_with(dir, SECRET));
    CHECK(files_with(dir, KEPT) > 0, "%s: what another has is gone", when);
    CHECK_OK(rv_witness_verify(p->s.db, &count));
    CHECK_OK(rv_memory_check(p->s.m));
    CHECK(number_of(p, "SELECT count(*) FROM episode") == 2 &&
              number_of(p, "SELECT count(*) FROM turns") == 2,
          "%s: questions", when);
    CHECK(number_of(p, "SELECT count(*) FROM feedback") == 2, "%s: feedback", when);
    CHECK(number_of(p, "SELECT count(*) FROM forgetting") == 0, "%s: not finished", when);
    CHECK(number_of(p, "SELECT version FROM policy_use WHERE kind = 'router' ORDER BY seq DESC LIMIT 1") == 1,
          "%s: the router", when);
    CHECK(number_of(p, "SELECT count(*) FROM policy WHERE kind = 'router' AND bytes IS NOT NULL") == 1,
          "%s: routers", when);
    CHECK(number_of(p, "SELECT count(*) FROM policy WHERE kind = 'patterns' AND bytes IS NOT NULL") == 1,
          "%s: patterns", when);
    CHECK(rv_adapters_in_use(p->adapters, 7, "bert") == 500 &&
              rv_adapters_in_use(p->adapters, 7, "anna") == 0,
          "%s: in use", when);
    CHECK(number_of(p, "SELECT count(*) FROM adapter WHERE user = 'anna'") == 0, "%s: adapters", when);
    CHECK(number_of(p, "SELECT adapter FROM adapter_use WHERE user = 'bert'") == 500,
          "%s: the other's adapter", when);
}

static const char *const points[] = { "nodes",   "adapters", "rows", "conversations", "refresh",
                                      "vectors", "file",     "mark", "done" };
static const char *dies_at;

static void die(const char *step)
{
    if (strcmp(step, dies_at) == 0) {
        raise(SIGKILL);
    }
}

TEST(killed_before_any_step_it_is_finished_at_the_next_start)
{
    for (size_t i = 0; i < RV_COUNT(points); i++) {
        const char *dir = temp_path(points[i]);
        fill(dir);
        CHECK(files_with(dir, SECRET) > 0, "nothing to forget");
        pid_t child = fork();
        if (child == 0) {
            place p;
            rv_forgotten done;
            dies_at = points[i];
            if (place_open(dir, &p)) {
                _exit(9);
            }
            p.how.passing = die;
            _exit(rv_forget(&p.how, "anna", NULL, 0, &done) ? 8 : 7);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "%s: status %x", points[i],
              (unsigned)status);
        place p;
        bool was = false;
        rv_forgotten done;
        CHECK_OK(place_open(dir, &p));
        CHECK_OK(rv_forget_resume(&p.how, &was, &done));
        CHECK(was == (i + 1 < RV_COUNT(points)), "%s: was %d", points[i], was);
        CHECK_OK(rv_forget_resume(&p.how, &was, &done));
        CHECK(!was, "%s: again", points[i]);
        check_forgotten(dir, &p, points[i]);
        place_close(&p);
        CHECK(files_with(dir, SECRET) == 0, "%s: after closing", points[i]);
    }
}

TEST(a_memory_takes_along_what_was_made_of_it)
{
    const char *dir = temp_dir();
    int64_t id = fill(dir);
    place p;
    rv_forgotten done;
    CHECK_OK(place_open(dir, &p));
    int64_t unknown = 99999;
    CHECK_ERR(rv_forget(&p.how, NULL, &unknown, 1, &done), RV_E_NOT_FOUND);
    CHECK_ERR(rv_forget(&p.how, "nobody", NULL, 0, &done), RV_E_NOT_FOUND);
    CHECK_ERR(rv_forget(&p.how, "", NULL, 0, &done), RV_E_ARG);
    CHECK_OK(rv_forget(&p.how, NULL, &id, 1, &done));
    CHECK(done.requests == 4 && done.memories >= 2 && done.vectors >= 3,
          "%zu requests, %zu memories, %zu vectors", done.requests, done.memories, done.vectors);
    CHECK(done.adapters == 2 && done.n_policies == 1 && done.policies[0].erased == 2 &&
              done.policies[0].version == 1,
          "%zu adapters, %zu kinds", done.adapters, done.n_policies);
    check_forgotten(dir, &p, "memory");
    place_close(&p);
}

static rv_archived archive_all(place *p)
{
    rv_archived done;
    rv_archiving how = {
        .db = p->s.db, .before_ms = INT64_MAX, .keep = 0, .until_ms = rv_clock_ms() + 60000
    };
    CHECK_OK(rv_learn_archive(&how, &done));
    return done;
}

/* Two answers of anna and one of bert that nobody rated, one of them judged: they and all records go to the archive and come back as they were. */
static int64_t fill_and_archive(const char *dir, rv_archived *done)
{
    static const struct {
        const char *user, *word;
    } said[] = { { "anna", SECRET }, { "anna", SECRET }, { "bert", KEPT } };
    int64_t id = fill(dir);
    place p;
    sqlite3 *conn;
    CHECK_OK(place_open(dir, &p));
    for (int i = 0; i < 3; i++) {
        char request[40], answer[96];
        snprintf(request, sizeof request, "00000000-0000-4000-8000-00000000090%d", i);
        snprintf(answer, sizeof answer, "line one\nit is \"%s\" \xc3\xa9", said[i].word);
        rv_episode e = { .request_id = request,
                         .session_id = "s",
                         .user = said[i].user,
                         .question = "what?",
                         .answer = answer,
                         .model = "m",
                         .confidence = 1.0 / 3,
                         .created_ms = 7000 + i,
                         .route = "{}" };
        CHECK_OK(rv_db_begin(p.s.db, &conn));
        CHECK_OK(rv_episode_append(conn, &e));
        CHECK_OK(i ? RV_OK
                   : rv_db_exec(conn, "INSERT INTO judged VALUES (?1, 'j', 0.5, 0.3, 1)", "t", request));
        CHECK_OK(rv_db_commit(p.s.db));
    }
    CHECK(files_with(dir, SECRET) > 0, "nothing to forget");
    *done = archive_all(&p);
    place_close(&p);
    return id;
}

TEST(what_was_archived_comes_back_as_it_was)
{
    const char *dir = temp_dir();
    rv_archived away, back;
    place p;
    uint64_t n;
    fill_and_archive(dir, &away);
    CHECK_OK(place_open(dir, &p));
    CHECK(away.answers == 3 && away.records > 10 && away.files == 2, "%zu answers, %zu records, %zu files",
          away.answers, away.records, away.files);
    CHECK(number_of(&p, "SELECT count(*) FROM episode") == 6, "rated answers went too");
    CHECK(number_of(&p, "SELECT count(*) FROM judged") == 0, "a judgement of nothing");
    CHECK_OK(rv_witness_verify(p.s.db, &n));
    CHECK_OK(rv_learn_restore(p.s.db, &back));
    CHECK(back.answers == away.answers && back.records == away.records, "%zu answers, %zu records",
          back.answers, back.records);
    CHECK(number_of(&p, "SELECT count(*) FROM witness WHERE body = '' OR archive > 0") == 0,
          "bodies are missing");
    CHECK(number_of(&p, "SELECT count(*) FROM judged WHERE quality = 0.5 AND trust = 0.3") == 1,
          "the judgement is not there");
    CHECK(number_of(&p, "SELECT count(*) FROM episode WHERE answer LIKE 'line one' || char(10) || '%' AND "
                        "confidence BETWEEN 0.33333333 AND "
                        "0.33333334") == 3,
          "answers changed");
    CHECK_OK(rv_witness_verify(p.s.db, &n));
    CHECK(archive_all(&p).answers == 3, "not again");
    place_close(&p);
}

/* Whatever was archived is forgotten too, also when the program is killed while it comes back. */
TEST(forgetting_reaches_the_archive)
{
    for (int killed = 0; killed < 2; killed++) {
        const char *dir = temp_path(killed ? "killed" : "whole");
        rv_archived away;
        fill_and_archive(dir, &away);
        pid_t child = fork();
        if (child == 0) {
            place p;
            rv_forgotten done;
            dies_at = killed ? "nodes" : "never";
            if (place_open(dir, &p)) {
                _exit(9);
            }
            p.how.passing = die;
            rv_err e = rv_forget(&p.how, "anna", NULL, 0, &done);
            place_close(&p);
            _exit(e ? 8 : 0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && (killed ? WIFSIGNALED(status) : status == 0),
              "status %x", (unsigned)status);
        place p;
        bool was = false;
        rv_forgotten done;
        uint64_t n;
        CHECK_OK(place_open(dir, &p));
        CHECK_OK(rv_forget_resume(&p.how, &was, &done));
        CHECK(was == killed, "was %d", was);
        CHECK(number_of(&p, "SELECT count(*) FROM episode WHERE user = 'anna'") == 0, "anna's");
        CHECK(number_of(&p, "SELECT count(*) FROM episode WHERE user = 'bert'") == 3, "bert's");
        archive_all(&p); /* what is left may go there again */
        CHECK_OK(rv_witness_verify(p.s.db, &n));
        CHECK_OK(rv_db_scrub(p.s.db));
        rv_archived back;
        CHECK(files_with(dir, SECRET) == 0, "%zu files hold it", files_with(dir, SECRET));
        CHECK_OK(rv_learn_restore(p.s.db, &back));
        place_close(&p);
        CHECK(files_with(dir, SECRET) == 0, "after it came back %zu files hold it", files_with(dir, SECRET));
    }
}

/* A damaged file must not keep anybody from being forgotten. */
TEST(a_damaged_file_of_the_archive_is_given_up)
{
    const char *dir = temp_dir();
    char path[4200];
    rv_archived away;
    place p;
    rv_forgotten done;
    uint64_t n;
    fill_and_archive(dir, &away);
    snprintf(path, sizeof path, "%s/archive/1.zst", dir);
    CHECK_OK(rv_file_replace(path, "not a frame", 11));
    CHECK_OK(place_open(dir, &p));
    CHECK_ERR(rv_witness_verify(p.s.db, &n), RV_E_CORRUPT);
    CHECK_OK(rv_forget(&p.how, "anna", NULL, 0, &done));
    CHECK(!rv_file_exists(path), "it is still there");
    CHECK_OK(rv_witness_verify(p.s.db, &n));
    CHECK(files_with(dir, SECRET) == 0, "%zu files hold it", files_with(dir, SECRET));
    place_close(&p);
}

/* With learning off, or after the conversation was deleted, the record is all there is of a request. */
TEST(of_a_request_that_only_its_record_knows_nothing_is_left)
{
    static const char body[] =
        "{\"user\":\"carla\",\"question\":\"what is quibbledonk?\",\"answer\":\"a word\",\"sources\":[]}";
    const char *dir = temp_dir();
    fill(dir);
    place p;
    rv_forgotten done;
    uint64_t count;
    sqlite3 *conn;
    CHECK_OK(place_open(dir, &p));
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    CHECK_OK(
        rv_witness_append(conn, "request", "00000000-0000-4000-8000-000000000099", body, sizeof body - 1));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK(files_with(dir, "quibbledonk") > 0, "nothing to forget");
    CHECK_OK(rv_forget(&p.how, "carla", NULL, 0, &done));
    CHECK(done.requests == 1 && done.records == 1, "%zu requests, %zu records", done.requests, done.records);
    CHECK(files_with(dir, "quibbledonk") == 0 && files_with(dir, KEPT) > 0, "%zu files hold it",
          files_with(dir, "quibbledonk"));
    CHECK_OK(rv_witness_verify(p.s.db, &count));
    place_close(&p);
}

/* Word for word, wherever it is kept: what another tier would have answered, or did before it was asked again, a correction, a turn, a concept about
 * several memories. */
TEST(the_same_words_go_wherever_they_are_kept)
{
    static const char text[] = "the vault opens with quibbledonk";
    const char *dir = temp_dir();
    place p;
    rv_forgotten done;
    sqlite3 *conn;
    bool added;
    fill(dir);
    CHECK_OK(place_open(dir, &p));
    int64_t other = note(&p, NULL, "harmless"), id, concept;
    CHECK_OK(rv_memory_add(p.s.m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = text }, &id,
                           &added));
    const int64_t parts[] = { id, other };
    rv_memory_new new = { .type = "concept",
                          .text = "vault: the vault opens with quibbledonk.",
                          .contains = parts,
                          .n_contains = 2 };
    CHECK_OK(rv_memory_add(p.s.m, rv_memory_of(NULL), &new, &concept, &added));
    /* a try, a correction, a turn of a conversation whose episode is not there, a draft, and one as it stood when there was one alone */
    static const char *const routes[] = { "{\"tries\":[{\"model\":\"m\",\"text\":\"%s.\"}]}", "{}", "{}",
                                          "{\"drafts\":[{\"text\":\"no\"},{\"text\":\"%s.\"}]}",
                                          "{\"draft\":{\"text\":\"%s.\"}}" };
    for (size_t i = 0; i < RV_COUNT(routes); i++) {
        char request[64], route[128];
        snprintf(request, sizeof request, "00000000-0000-4000-8000-0000000001%02zu", i);
        snprintf(route, sizeof route, routes[i], text);
        rv_episode e = { .request_id = request,
                         .session_id = "x",
                         .question = "how",
                         .answer = "so",
                         .model = "m",
                         .created_ms = 5000,
                         .route = route };
        rv_turn turn = { request, "how", text, "", 5000 };
        CHECK_OK(rv_db_begin(p.s.db, &conn));
        CHECK_OK(i == 2 ? rv_session_append(conn, "x", &turn) : rv_episode_append(conn, &e));
        if (i == 1) {
            CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'correction', 0, ?2, 0, 5000)", "tt",
                                request, text));
        }
        CHECK_OK(rv_db_commit(p.s.db));
    }
    int64_t before = number_of(&p, "SELECT count(*) FROM episode");
    CHECK(files_with(dir, "quibbledonk") > 0, "nothing to forget");
    CHECK_OK(rv_forget(&p.how, NULL, &id, 1, &done));
    CHECK(done.requests == 5 && done.memories == 2, "%zu requests, %zu memories", done.requests,
          done.memories);
    CHECK(files_with(dir, "quibbledonk") == 0 && files_with(dir, KEPT) > 0, "%zu files hold it",
          files_with(dir, "quibbledonk"));
    CHECK(number_of(&p, "SELECT count(*) FROM episode") == before - 4, "other questions went");
    rv_arena *arena;
    rv_memory_node node;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_memory_get(p.s.m, rv_memory_whole(), other, arena, &node));
    rv_arena_free(arena);
    place_close(&p);
}

/* A second rating has a new time; a router that had learned from the first one holds the question all the same. */
TEST(a_version_made_between_two_ratings_goes)
{
    static const char *const kinds[] = { "router", "retrieval", "attention", "patterns" };
    place p;
    rv_forgotten done;
    rv_feedback_done rated;
    sqlite3 *conn;
    CHECK_OK(place_open(temp_dir(), &p));
    request(&p, 1, "anna", SECRET, note(&p, "anna", SECRET));
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        version(&p, kinds[i], 0, 'z');
    }
    CHECK_OK(rv_db_begin(p.s.db, &conn)); /* the question is of 1001 */
    CHECK_OK(rv_db_exec(conn, "UPDATE policy SET created_ms = 2000", ""));
    CHECK_OK(rv_db_commit(p.s.db));
    rv_feedback again = { .request_id = "00000000-0000-4000-8000-000000000001", .rating = 4 };
    CHECK_OK(rv_feedback_store(p.s.db, p.s.m, &again, &rated));
    CHECK_OK(rv_forget(&p.how, "anna", NULL, 0, &done));
    CHECK(number_of(&p, "SELECT count(*) FROM policy WHERE bytes IS NOT NULL") == 0, "versions are left");
    CHECK(done.n_policies == RV_COUNT(kinds), "%zu kinds", done.n_policies);
    place_close(&p);
}

/* How an answer was routed, cut off: nobody is kept by it from forgetting, and what it holds is found. */
TEST(a_damaged_route_keeps_nobody_from_being_forgotten)
{
    static const char text[] = "the vault opens with quibbledonk";
    static const char *const routes[] = { "{\"hits\":[[0.25,1],[0.",
                                          "{\"drafts\":[{\"text\":\"the vault opens with quibbledonk" };
    const char *dir = temp_dir();
    place p;
    rv_forgotten done;
    sqlite3 *conn;
    bool added;
    int64_t id;
    fill(dir);
    CHECK_OK(place_open(dir, &p));
    CHECK_OK(rv_memory_add(p.s.m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = text }, &id,
                           &added));
    for (int i = 0; i < 2; i++) {
        char request[64];
        snprintf(request, sizeof request, "00000000-0000-4000-8000-0000000001%02d", i);
        rv_episode e = { .request_id = request,
                         .session_id = "x",
                         .question = "how",
                         .answer = "so",
                         .model = "m",
                         .created_ms = 5000,
                         .route = routes[i] };
        CHECK_OK(rv_db_begin(p.s.db, &conn));
        CHECK_OK(rv_episode_append(conn, &e));
        CHECK_OK(rv_db_commit(p.s.db));
        CHECK_OK(rv_episode_add_tries(p.s.db, request, "[]"));
    }
    CHECK_OK(rv_forget(&p.how, NULL, &id, 1, &done));
    CHECK(done.requests == 1 && files_with(dir, "quibbledonk") == 0, "%zu requests", done.requests);
    CHECK_OK(rv_forget(&p.how, "anna", NULL, 0, &done));
    CHECK(files_with(dir, SECRET) == 0, "%zu files hold it", files_with(dir, SECRET));
    place_close(&p);
}

/* The same of what stood in the prompt, and of a record: what cannot be read goes when it names, or says, what is to go. */
TEST(damaged_sources_and_records_keep_nobody_from_being_forgotten)
{
    const char *dir = temp_dir();
    char sources[32];
    place p;
    rv_forgotten done;
    sqlite3 *conn;
    int64_t id = fill(dir);
    CHECK_OK(place_open(dir, &p));
    snprintf(sources, sizeof sources, "[%lld,", (long long)id);
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    for (int i = 0; i < 2; i++) {
        rv_episode e = { .request_id = i ? "named" : "not named",
                         .session_id = "x",
                         .question = "how",
                         .answer = i ? "zyxomirquandt" : "so",
                         .model = "m",
                         .created_ms = 5000 };
        CHECK_OK(rv_episode_append(conn, &e));
        CHECK_OK(rv_db_exec(conn, "UPDATE episode SET sources = ?2 WHERE request_id = ?1", "tt", e.request_id,
                            i ? sources : "{"));
    }
    CHECK_OK(rv_witness_append(conn, "request", "cut", "{\"question\":\"anna keeps the word zyxomirquandt\"}",
                               48));
    CHECK_OK(rv_witness_append(conn, "request", "kept", "{\"question\":\"plovdivarium\"}", 27));
    CHECK_OK(rv_witness_append(conn, "adapter", "", "{\"user\":\"bert\"}", 15));
    CHECK_OK(rv_db_exec(conn,
                        "UPDATE witness SET body = substr(body, 1, length(body) - 2)"
                        " WHERE request_id IN ('cut', 'kept') OR kind = 'adapter'",
                        ""));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK_OK(rv_forget(&p.how, NULL, &id, 1, &done));
    CHECK(files_with(dir, SECRET) == 0, "%zu files hold it", files_with(dir, SECRET));
    CHECK(number_of(&p, "SELECT count(*) FROM episode WHERE request_id = 'named'") == 0 &&
              number_of(&p, "SELECT count(*) FROM episode WHERE request_id = 'not named'") == 1,
          "%zu requests", done.requests);
    CHECK(number_of(&p, "SELECT count(*) FROM witness WHERE body <> '' AND request_id = 'kept'") == 1,
          "%zu records", done.records);
    CHECK_OK(rv_forget(&p.how, "bert", NULL, 0, &done));
    place_close(&p);
}

/* What somebody joined to a document of another's is not a part of it. */
TEST(a_document_takes_its_own_chunks_and_nothing_else)
{
    place p;
    rv_forgotten done;
    rv_memory_import imported = { 0 };
    static const char text[] = "The heron stands on one leg by the canal.";
    int64_t id;
    bool added;
    CHECK_OK(place_open(temp_dir(), &p));
    CHECK_OK(rv_memory_import_bytes(p.s.m, rv_memory_of("bob"), "a.txt", text, sizeof text - 1, NULL, 0,
                                    &imported));
    int64_t document = number_of(&p, "SELECT id FROM nodes WHERE type = 'document'"),
            lamp = note(&p, NULL, "lamp"), own = note(&p, "bob", "own");
    CHECK_OK(rv_memory_link(p.s.m, rv_memory_of("bob"), document, lamp, "contains", 1));
    CHECK_OK(rv_memory_link(p.s.m, rv_memory_of("bob"), document, own, "contains", 1));
    CHECK_OK(rv_memory_add(p.s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "chunk", .text = "Everybody's." }, &id, &added));
    CHECK_OK(rv_memory_link(p.s.m, rv_memory_of("bob"), document, id, "contains", 1));
    CHECK_OK(rv_forget(&p.how, NULL, &document, 1, &done));
    CHECK(done.memories == 2, "%zu memories", done.memories);
    CHECK(number_of(&p, "SELECT count(*) FROM nodes") == 3, "%lld are left",
          (long long)number_of(&p, "SELECT count(*) FROM nodes"));
    place_close(&p);
}

/* A record that was emptied by somebody else is still a broken chain. */
TEST(an_empty_record_that_nobody_forgot_is_found)
{
    const char *dir = temp_dir();
    fill(dir);
    place p;
    uint64_t count;
    sqlite3 *conn;
    CHECK_OK(place_open(dir, &p));
    CHECK_OK(rv_witness_verify(p.s.db, &count));
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE witness SET body = '' WHERE seq = 3", ""));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK_ERR(rv_witness_verify(p.s.db, &count), RV_E_CORRUPT);
    place_close(&p);
}
