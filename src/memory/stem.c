/* Language by the commonest words, then Snowball's stemmer of that language, then marks off. The stemmers want lower case with marks
 * ("häuser"), what is compared has none ("haus"). */
#include "memory/stem.h"
#include "base/rng.h"

#include <libstemmer.h>
#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

enum { WORD_BYTES = 64, LOOK_BYTES = 4096, SLOTS = 2048, STEM_BYTES = 4 * WORD_BYTES, FOLD_MAX = 32 };

static const struct {
    const char *name;   /* as Snowball has it */
    const char *common; /* words, each between spaces; NULL: told by its letters */
} languages[RV_LANGUAGES] = {
    [RV_LANGUAGE_UNKNOWN] = { "unknown", NULL },
    [RV_LANGUAGE_ENGLISH] = { "english",
                              "a the of and to is that it was for with as are this be by have from or had "
                              "not but what "
                              "which were there when who will how has been would your their they you he she "
                              "his her its "
                              "where why does do did can an if at on we i my me about into than then so no" },
    [RV_LANGUAGE_DANISH] = { "danish", "og at det som en et er på for med af den ikke til har om var jeg de "
                                       "han hun men så fra "
                                       "eller når vi kan skal hvordan hvad hvem hvor efter ved her sig sin "
                                       "også dette være blev "
                                       "blive nogle" },
    [RV_LANGUAGE_DUTCH] = { "dutch", "de het een en van is dat niet te op voor met zijn aan er om ook als "
                                     "maar door bij uit naar "
                                     "dan nog wel geen wordt worden deze dit heeft hebben wat waar wanneer "
                                     "wie hoe ik je hij zij "
                                     "wij ze werd tot over" },
    [RV_LANGUAGE_FINNISH] = { "finnish",
                              "ja on ei se että hän oli olla ovat mutta tai kun niin kuin jos joka myös mitä "
                              "missä kuka "
                              "miten milloin minä sinä me te he tämä sen siitä jo vain kanssa ole olen" },
    [RV_LANGUAGE_FRENCH] = { "french", "a le la les de des du et est un une que qui dans pour pas sur au aux "
                                       "avec ce cette il elle "
                                       "ne se par plus son sa ses nous vous ils je mais ou où comme sont été "
                                       "être quand quel "
                                       "quelle pourquoi leur leurs d l" },
    [RV_LANGUAGE_GERMAN] = { "german",
                             "der die das und ist nicht ein eine einen einem einer zu den dem des mit sich "
                             "auf für im "
                             "von als auch es an werden aus er hat dass sie nach wird bei noch wie über wir "
                             "ich war "
                             "haben wenn oder aber man wann wo warum wer welche kann sind zum zur vom am" },
    [RV_LANGUAGE_HUNGARIAN] = { "hungarian",
                                "a az és hogy nem is egy van volt meg ez de csak ki mint már mi ha vagy azt "
                                "el még aki ami "
                                "mert kell lesz mikor hol miért hogyan ezt minden után szerint között" },
    [RV_LANGUAGE_ITALIAN] = { "italian", "a il lo la gli le di del della dei delle e è un una che non per "
                                         "con si da in come più ma "
                                         "anche sono nel nella al alla dal dalla questo questa suo sua ha "
                                         "hanno quando dove perché "
                                         "chi quale cosa io noi essere era" },
    [RV_LANGUAGE_NORWEGIAN] = { "norwegian", "og at det som en et er på for med av den ikke til har om var "
                                             "jeg de han hun men så fra "
                                             "eller når vi kan skal hvordan hva hvem hvor etter ved her seg "
                                             "sin også dette være ble bli "
                                             "noen ei ikkje eg" },
    [RV_LANGUAGE_PORTUGUESE] = { "portuguese", "a o os as de do da dos das e é um uma que não em no na nos "
                                               "nas por com se para ao aos mais "
                                               "como mas foi ele ela seu sua ou quando muito já está também "
                                               "pelo pela até isso quem onde "
                                               "são você ser tem" },
    [RV_LANGUAGE_ROMANIAN] = { "romanian",
                               "a și de la în cu nu o un pe este că din care mai se au fost sau dar pentru "
                               "prin ca sunt "
                               "lui ei când unde cine cum ce această acest fi dintre după între fără sa" },
    [RV_LANGUAGE_RUSSIAN] = { "russian", NULL },
    [RV_LANGUAGE_SPANISH] = { "spanish", "a el la los las de del y es en que un una por con no se su para al "
                                         "lo como más pero sus le "
                                         "ya o este esta porque cuando muy sin sobre también me hasta hay "
                                         "donde quien desde todo nos "
                                         "durante son cómo cuándo dónde qué fue está" },
    [RV_LANGUAGE_SWEDISH] = { "swedish", "och att det som en ett är på för med av den inte till har om var "
                                         "jag de han hon men så "
                                         "från eller när vi kan ska hur vad vem där efter vid här sig sin "
                                         "under utan också skall "
                                         "detta" },
    [RV_LANGUAGE_TURKISH] = { "turkish", "ve bir bu da de için ile o ne ama gibi çok daha en mi mu kadar ben "
                                         "sen biz siz olan olarak "
                                         "var yok ya ki her değil sonra nasıl nerede kim zaman göre olduğu" },
};

const char *rv_language_name(rv_language language)
{
    return languages[language < RV_LANGUAGES ? language : RV_LANGUAGE_UNKNOWN].name;
}

/* ---- which language ---- */

/* Common words by hash; a word of several languages has several bits. */
static struct common_word {
    const char *at;
    size_t n;
    uint32_t languages;
} common[SLOTS];
static pthread_once_t common_once = PTHREAD_ONCE_INIT;

static struct common_word *slot_of(const char *at, size_t n)
{
    size_t slot = (size_t)rv_hash64(at, n, 0) % SLOTS;
    while (common[slot].at && (common[slot].n != n || memcmp(common[slot].at, at, n) != 0)) {
        slot = (slot + 1) % SLOTS;
    }
    return &common[slot];
}

static void make_common(void)
{
    for (size_t l = 0; l < RV_LANGUAGES; l++) {
        for (const char *at = languages[l].common; at && *at;) {
            size_t n = strcspn(at, " ");
            struct common_word *w = slot_of(at, n);
            w->at = at;
            w->n = n;
            w->languages |= RV_LANGUAGE_SET(l);
            at += n + (at[n] == ' ');
        }
    }
}

static bool ascii_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool joins_word(uint32_t code)
{
    if (code < 0x80) {
        return ascii_word((unsigned char)code);
    }
    utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)code);
    return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) || /* letters, marks, numbers */
           (kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_NO);
}

/* One character at text[at]: its code, in lower case; its length, at least 1. Malformed bytes part words. */
static size_t next_char(const char *text, size_t n, size_t at, uint32_t *code)
{
    size_t k = rv_utf8_decode(text + at, n - at, code);
    if (k == 0) {
        *code = ' ';
        return 1;
    }
    *code = *code < 0x80 ? (*code >= 'A' && *code <= 'Z' ? *code + 32 : *code)
                         : (uint32_t)utf8proc_tolower((utf8proc_int32_t)*code);
    return k;
}

/* The next word at or after *at in lower case, *from its first byte; *at ends behind it. Its length, 0: no more. */
static size_t next_word(const char *text, size_t n, size_t *at, size_t *from, char out[WORD_BYTES])
{
    size_t length = 0, i = *at;
    while (i < n) {
        uint32_t code;
        size_t k = next_char(text, n, i, &code);
        if (!joins_word(code)) {
            if (length > 0) {
                break;
            }
        } else {
            char bytes[4];
            size_t b = rv_utf8_encode(code, bytes);
            if (length + b > WORD_BYTES) {
                break;
            }
            if (length == 0) {
                *from = i;
            }
            memcpy(out + length, bytes, b);
            length += b;
        }
        i += k;
    }
    *at = i;
    return length;
}

rv_language rv_words_language(const char *text, size_t n, bool short_text)
{
    pthread_once(&common_once, make_common);
    size_t counts[RV_LANGUAGES] = { 0 }, from;
    char word[WORD_BYTES];
    n = n > LOOK_BYTES ? LOOK_BYTES : n;
    for (size_t at = 0, length; (length = next_word(text, n, &at, &from, word)) > 0;) {
        uint32_t set = slot_of(word, length)->languages;
        for (size_t l = 0; set; l++, set >>= 1) {
            counts[l] += set & 1;
        }
        /* Cyrillic is U+0400 .. U+04FF: two bytes that begin with 0xd0 .. 0xd3 */
        counts[RV_LANGUAGE_RUSSIAN] += (unsigned char)word[0] >= 0xd0 && (unsigned char)word[0] <= 0xd3;
    }
    rv_language best = RV_LANGUAGE_UNKNOWN;
    size_t second = 0;
    for (size_t l = RV_LANGUAGE_UNKNOWN + 1; l < RV_LANGUAGES; l++) {
        if (counts[l] > counts[best]) {
            second = counts[best];
            best = (rv_language)l;
        } else if (counts[l] > second) {
            second = counts[l];
        }
    }
    size_t least = short_text ? 1 : 2;
    return counts[best] >= least && counts[best] > second ? best : RV_LANGUAGE_UNKNOWN;
}

/* ---- stems ---- */

struct rv_words {
    const rv_alloc *mem;
    struct sb_stemmer *stemmers[RV_LANGUAGES];
    const char *text;
    size_t n, at;
    uint32_t languages;
    char word[WORD_BYTES]; /* at hand, in lower case */
    size_t length, from, number;
    uint32_t left; /* languages whose stem of it is still to come */
    char stems[RV_LANGUAGES][STEM_BYTES];
    size_t stem_bytes[RV_LANGUAGES];
    size_t n_stems; /* of the word at hand, so that each comes once */
    bool failed;
};

rv_err rv_words_new(const rv_alloc *mem, rv_words **out)
{
    rv_words *w = rv_new(mem, sizeof *w);
    if (!w) {
        return rv_fail(RV_E_NOMEM, "no memory for stemmers");
    }
    *w = (rv_words){ .mem = mem };
    *out = w;
    return RV_OK;
}

void rv_words_free(rv_words *w)
{
    if (!w) {
        return;
    }
    for (size_t l = 0; l < RV_LANGUAGES; l++) {
        sb_stemmer_delete(w->stemmers[l]);
    }
    rv_free(w->mem, w);
}

void rv_words_begin(rv_words *w, const char *text, size_t n, uint32_t set)
{
    pthread_once(&common_once, make_common);
    w->text = text;
    w->n = n;
    w->at = w->number = w->left = 0;
    w->languages = set & (RV_LANGUAGE_SET(RV_LANGUAGES) - 2) ? set & (RV_LANGUAGE_SET(RV_LANGUAGES) - 2)
                                                             : RV_LANGUAGE_SET(RV_LANGUAGE_UNKNOWN);
    w->failed = false;
}

/* Without marks, and in the compatible form: "ﬁ" is "fi". What grows beyond STEM_BYTES is cut between characters. */
static size_t fold(const char *at, size_t n, char out[STEM_BYTES])
{
    size_t length = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code = 0;
        size_t k = rv_utf8_decode(at + i, n - i, &code);
        if (k <= 1) {
            if (length < STEM_BYTES) {
                out[length++] = at[i];
            }
            i++;
            continue;
        }
        utf8proc_int32_t parts[FOLD_MAX];
        int boundary = 0;
        utf8proc_option_t how = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK;
        utf8proc_ssize_t n_parts =
            utf8proc_decompose_char((utf8proc_int32_t)code, parts, FOLD_MAX, how, &boundary);
        for (utf8proc_ssize_t p = 0; p < n_parts && p < FOLD_MAX; p++) {
            char bytes[4];
            size_t b = rv_utf8_encode((uint32_t)parts[p], bytes);
            if (length + b <= STEM_BYTES) {
                memcpy(out + length, bytes, b);
                length += b;
            }
        }
        i += k;
    }
    return length;
}

/* The stem of the word at hand in one language into the next place of stems; false: it is there already, or nothing is left of it. */
static bool stem(rv_words *w, rv_language l)
{
    const char *at = w->word;
    size_t n = w->length;
    if (l != RV_LANGUAGE_UNKNOWN) {
        if (!w->stemmers[l]) {
            w->stemmers[l] = sb_stemmer_new(languages[l].name, "UTF_8");
        }
        const sb_symbol *found =
            w->stemmers[l] ? sb_stemmer_stem(w->stemmers[l], (const sb_symbol *)at, (int)n) : NULL;
        if (found) {
            at = (const char *)found;
            n = (size_t)sb_stemmer_length(w->stemmers[l]);
        }
        w->failed |= !found;
    }
    size_t k = w->n_stems, length = fold(at, n, w->stems[k]);
    w->stem_bytes[k] = length;
    for (size_t i = 0; i < k; i++) {
        if (w->stem_bytes[i] == length && memcmp(w->stems[i], w->stems[k], length) == 0) {
            return false;
        }
    }
    return length > 0;
}

bool rv_words_next(rv_words *w, rv_word *out)
{
    for (;;) {
        for (size_t l = 0; l < RV_LANGUAGES; l++) {
            if (!(w->left & RV_LANGUAGE_SET(l))) {
                continue;
            }
            w->left &= ~RV_LANGUAGE_SET(l);
            if (stem(w, (rv_language)l)) {
                size_t k = w->n_stems++;
                *out = (rv_word){ .stem = rv_str_of(w->stems[k], w->stem_bytes[k]),
                                  .word = w->number - 1,
                                  .at = w->from,
                                  .n = w->at - w->from,
                                  .common = (slot_of(w->word, w->length)->languages & w->languages) != 0 };
                return true;
            }
        }
        w->length = next_word(w->text, w->n, &w->at, &w->from, w->word);
        if (w->length == 0) {
            return false;
        }
        w->number++;
        w->n_stems = 0;
        w->left = w->languages;
    }
}

rv_err rv_words_failed(const rv_words *w)
{
    return w->failed ? rv_fail(RV_E_NOMEM, "no memory for a stemmer") : RV_OK;
}
