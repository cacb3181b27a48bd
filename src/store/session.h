/* Sessions: the turns of a conversation, kept across restarts. A session belongs to a user: the same id of another user is
 * another session. */
#ifndef RV_STORE_SESSION_H
#define RV_STORE_SESSION_H
#include "base/arena.h"
#include "store/db.h"

#define RV_SESSION_ID_MAX 128 /* printable ASCII without space / \ and control, not "." or ".." */

rv_err rv_session_setup(rv_db *db) RV_MUST_CHECK; /* migrations */
/** rv_session_check_id - RV_E_ARG saying what is allowed. */
rv_err rv_session_check_id(const char *id, size_t n) RV_MUST_CHECK;

typedef struct rv_turn {
    const char *request_id, *question, *answer, *user; /* user "" when none */
    int64_t created_ms;
} rv_turn;

/** rv_session_append - inside the caller's transaction conn (the pipeline writes turn, episode and witness together).
 * The session is made when missing. user NULL is "". RV_E_ARG the id; what rv_db_fail says. */
rv_err rv_session_append(sqlite3 *conn, const char *session, const rv_turn *turn) RV_MUST_CHECK;
/** rv_session_recent - the last n turns of this user's session, oldest first, in arena. Unknown session: none. user NULL is "".
 * Errors: RV_E_CORRUPT a turn does not fit its checksum.  RV_E_NOMEM the arena is full.  Threads: any thread. */
rv_err rv_session_recent(rv_db *db, const char *session, const char *user, size_t n, rv_arena *arena,
                         rv_turn **out, size_t *found) RV_MUST_CHECK;
typedef struct rv_session_info {
    const char *id;
    size_t turns;
    int64_t created_ms, last_ms;
} rv_session_info;
/** rv_session_list - this user's sessions, the last used first. */
rv_err rv_session_list(rv_db *db, const char *user, size_t limit, rv_arena *arena, rv_session_info **out,
                       size_t *n) RV_MUST_CHECK;
/** rv_session_rm - this user's session with its turns; durable when it returns. *removed: 0 or 1 sessions. */
rv_err rv_session_rm(rv_db *db, const char *session, const char *user, size_t *removed) RV_MUST_CHECK;
#endif
