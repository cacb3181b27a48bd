#ifndef RV_APP_APP_PRIV_H
#define RV_APP_APP_PRIV_H
#include "app/app.h"

struct rv_app {
    const rv_alloc *mem;
    const rv_config *config;
    rv_pipeline pipeline;
    char *models_dir; /* NULL: none found */
};
#endif
