/* HTML as the text that a reader would see. */
#ifndef RV_MEMORY_HTML_H
#define RV_MEMORY_HTML_H
#include "base/err.h"
#include "base/str.h"

/**
 * rv_html_text - the page's text added to out, paragraphs parted by blank lines; a heading is a paragraph that begins with a byte 1 ..
 * 6, its level (no other byte below 32 but line ends comes out). Scripts, styles, forms' controls and menus (nav) are left out. A page without headings begins
 * with its title as one.
 *
 * html    [n] any bytes: UTF-8 when it is valid, else what the page says it is, else Latin-1. Nothing it names is fetched
 * Errors: RV_E_NOMEM. Broken HTML is read as browsers would.
 * Threads: any thread.
 */
rv_err rv_html_text(const char *html, size_t n, rv_text *out) RV_MUST_CHECK;
#endif
