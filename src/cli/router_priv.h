/* Rows whose outcome is known, as the router commands read and report on them. */
#ifndef RV_CLI_ROUTER_PRIV_H
#define RV_CLI_ROUTER_PRIV_H
#include "cli/cli.h"

#include "app/routing.h"

enum { NAME_ROOM = 64 };

typedef struct router_datum {
    char *text, *task;
    size_t n;
    float *vector;
    bool test;
} router_datum;

typedef struct router_data {
    char names[RV_ROUTER_TIERS][NAME_ROOM];
    size_t tiers;
    bool chosen; /* tiers were named on the command line */
    router_datum *at;
    rv_router_row *rows; /* beside at, and into it */
    size_t n, room;
    const rv_embed *embed;
    bool known_costs;
} router_data;

/* Keeps the tiers named in list (a,b,..; NULL: those of the rows). RV_E_ARG. */
rv_err router_data_choose(router_data *d, const char *list) RV_MUST_CHECK;

/* Rows of a JSONL file, with vectors when d->embed is set; errors name the line. */
rv_err router_data_read(router_data *d, const char *path) RV_MUST_CHECK;

void router_data_drop(router_data *d);

/* What the router is told of a question alone: no memory was searched. vector: NULL or of r's embedder. */
rv_slot_input router_input_of(const rv_router *r, const char *text, size_t n, const float *vector);

/* What r decides on the test rows, beside what does not look (hull, always the largest, length, a table per task), on standard output.
 * trained: NULL or what was measured while it learned. */
rv_err router_report(const cmd_line *line, const router_data *d, const rv_router *r,
                     const rv_router_trained *trained) RV_MUST_CHECK;
#endif
