/* Shared by the readers of this folder. */
#ifndef RV_MODEL_GGUF_PRIV_H
#define RV_MODEL_GGUF_PRIV_H

/* A name from a file as the two arguments of "%.*s", cut so that a hostile megabyte does not fill the message. */
#define RV_SHOWN(s) (int)((s).n < 96 ? (s).n : 96), (s).at

#endif
