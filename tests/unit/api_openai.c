/* The shapes of chat completions for pieces as a model would give them: here tool calls, which small models do not make
 * when a test wants them. The pieces go through the same code and a real connection. */
#include "http_client.h"

#include "api/openai_priv.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct script {
    const char *const *pieces;
    size_t n;
    bool stream;
    rv_err fails; /* after the pieces */
    const char *why;
    rv_pipeline pipeline;
    rv_api *api;
    rv_http_server *server;
} script;

/* One whole call on the net thread, without a model. */
static void play(void *self, rv_http_request *request)
{
    script *s = self;
    rv_api_call call = { .api = s->api, .pipeline = &s->pipeline, .http = request };
    json_t *tools = json_array();
    rv_api_openai o = {
        .call = &call, .chat = true, .model = "m", .tools = tools, .stream = s->stream, .n = 1
    };
    snprintf(o.id, sizeof o.id, "chatcmpl-test");
    o.how.n_logprobs = -1;
    rv_api_openai_init(&o);
    rv_api_openai_begin(&o, 0);
    bool on = true;
    for (size_t i = 0; i < s->n && on; i++) {
        rv_piece piece = { .text = s->pieces[i], .n = strlen(s->pieces[i]), .token = (int32_t)i };
        on = o.how.on_piece(o.how.self, &piece);
    }
    o.done.finish = RV_FINISH_STOP;
    if (s->fails) {
        rv_api_generation_failed(&call, rv_fail(s->fails, "%s", s->why), "messages");
        rv_api_openai_deinit(&o);
        json_decref(tools);
        return;
    }
    if (!on || rv_api_openai_end(&o) != RV_OK) {
        abort();
    }
    rv_api_openai_finish(&o);
    rv_api_openai_deinit(&o);
    json_decref(tools);
}

static void *serve(void *self)
{
    if (rv_http_run(((script *)self)->server, WAIT_MS) != RV_OK) {
        abort();
    }
    return NULL;
}

static const char *play_script(script s)
{
    pthread_t thread;
    CHECK_OK(rv_api_new(&rv_heap, &s.pipeline,
                        (rv_api_options){ .workers = 1, .max_queue = 1, .version = "t" }, &s.api));
    rv_http_options how = { .listen = "127.0.0.1",
                            .max_connections = 1,
                            .max_header_bytes = 1000,
                            .request_timeout_ms = WAIT_MS,
                            .handle = play,
                            .self = &s };
    CHECK_OK(rv_http_listen(&rv_heap, &how, &s.server));
    CHECK(pthread_create(&thread, NULL, serve, &s) == 0, "thread");
    int fd = dial(rv_http_port(s.server));
    say(fd, "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const char *answer = hear(fd, NULL);
    close(fd);
    rv_http_stop(s.server);
    pthread_join(thread, NULL);
    rv_api_free(s.api);
    rv_http_free(s.server);
    return answer;
}

static const char *answer_for(const char *const *pieces, size_t n, bool stream)
{
    return play_script((script){ .pieces = pieces, .n = n, .stream = stream });
}

/* Content of all deltas put together, into out. */
static void all_content(const char *answer, char out[512])
{
    size_t n = 0;
    for (const char *at = answer; (at = strstr(at, "\"content\":\"")) != NULL;) {
        at += strlen("\"content\":\"");
        size_t length = strcspn(at, "\"");
        CHECK(n + length < 512, "too long");
        memcpy(out + n, at, length);
        n += length;
    }
    out[n] = 0;
}

#define MARK "<|tool_call_start|>"
#define END  "<|tool_call_end|>"

TEST(text_before_a_call_is_streamed_and_the_call_comes_parsed)
{
    static const char *const pieces[] = { "Let me", " look.", MARK, "[find(", "name='a', n=2)", "]", END };
    const char *answer = answer_for(pieces, RV_COUNT(pieces), true);
    char content[512];
    all_content(answer, content);
    CHECK(strcmp(content, "Let me look.") == 0, "%s: %s", content, answer);
    expect(answer, "\"delta\":{\"role\":\"assistant\",\"content\":\"Let me\"}");
    expect(answer, "\"delta\":{\"content\":\" look.\"}");
    expect(answer, "\"tool_calls\":[{\"id\":\"call_");
    expect(answer, "\"function\":{\"name\":\"find\",\"arguments\":\"{\\\"name\\\":\\\"a\\\",\\\"n\\\":2}\"},"
                   "\"index\":0}]");
    expect(answer, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}");
    expect(answer, "data: [DONE]\n\n");
    CHECK(!strstr(answer, "tool_call_start") && occurrences(answer, "data: ") == 5, "%s", answer);
}

TEST(two_calls_have_their_own_index)
{
    static const char *const pieces[] = { MARK "[f(), g(x=1)]" END };
    const char *answer = answer_for(pieces, 1, true);
    expect(answer, "\"delta\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{");
    expect(answer, "\"name\":\"f\",\"arguments\":\"{}\"},\"index\":0},{");
    expect(answer, "\"name\":\"g\",\"arguments\":\"{\\\"x\\\":1}\"},\"index\":1}]");
}

TEST(a_mark_that_comes_in_parts_is_held_and_one_that_is_none_is_given_back)
{
    static const char *const split[] = { "a", "<|tool", "_call_", "start|>", "[f()]", END };
    const char *answer = answer_for(split, RV_COUNT(split), true);
    char content[512];
    all_content(answer, content);
    CHECK(strcmp(content, "a") == 0 && strstr(answer, "\"name\":\"f\""), "%s", answer);

    static const char *const none[] = { "a <|", "b", " <|tool_", "c <" };
    answer = answer_for(none, RV_COUNT(none), true);
    all_content(answer, content);
    CHECK(strcmp(content, "a <|b <|tool_c <") == 0, "%s: %s", content, answer);
    expect(answer, "\"finish_reason\":\"stop\"");
}

TEST(a_call_that_cannot_be_read_stays_text)
{
    static const char *const pieces[] = { "x", MARK, "[f(", END };
    for (int stream = 0; stream < 2; stream++) {
        const char *answer = answer_for(pieces, RV_COUNT(pieces), stream);
        char content[512];
        all_content(answer, content);
        CHECK(strcmp(content, "x" MARK "[f(" END) == 0, "%s: %s", content, answer);
        expect(answer, "\"finish_reason\":\"stop\"");
    }
}

TEST(a_whole_answer_has_text_and_calls_apart)
{
    static const char *const pieces[] = { "Here: ", MARK "[f(a=True)]" END };
    const char *answer = answer_for(pieces, RV_COUNT(pieces), false);
    expect(answer, "\"object\":\"chat.completion\"");
    expect(answer, "\"content\":\"Here: \",\"refusal\":null,\"tool_calls\":[{");
    expect(answer, "\"arguments\":\"{\\\"a\\\":true}\"");
    expect(answer, "\"finish_reason\":\"tool_calls\"");
    static const char *const only[] = { MARK "[f()]" END };
    expect(answer_for(only, 1, false), "\"content\":null,\"refusal\":null,\"tool_calls\":[{");
}

TEST(an_answer_without_text_is_still_a_stream)
{
    const char *answer = answer_for(NULL, 0, true);
    expect(answer, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
    expect(answer, "\"finish_reason\":\"stop\"");
    expect(answer, "data: [DONE]\n\n");
}

TEST(a_failure_is_an_error_answer_and_in_a_stream_its_last_event)
{
    static const char *const pieces[] = { "some" };
    const char *answer = play_script(
        (script){ .fails = RV_E_CONTEXT, .why = "the prompt has 900 tokens, the context holds 512" });
    expect(answer, "HTTP/1.1 400 ");
    expect(
        answer,
        "\"type\":\"exceed_context_size_error\",\"param\":\"messages\",\"code\":\"context_length_exceeded\","
        "\"n_prompt_tokens\":900,\"n_ctx\":512}}");
    answer = play_script((script){ .fails = RV_E_ARG, .why = "top_p: out of range" });
    expect(answer, "HTTP/1.1 400 ");
    expect(answer,
           "\"message\":\"top_p: out of range\",\"type\":\"invalid_request_error\",\"param\":\"top_p\"");
    answer = play_script((script){ .fails = RV_E_TIMEOUT, .why = "no answer within 5 ms" });
    expect(answer, "HTTP/1.1 504 ");
    /* What failed on our side may name files: it is for the log. */
    answer = play_script((script){ .fails = RV_E_FORMAT, .why = "/secret/model.gguf: broken" });
    expect(answer, "HTTP/1.1 500 ");
    CHECK(!strstr(answer, "secret"), "%s", answer);

    answer = play_script(
        (script){ .pieces = pieces, .n = 1, .stream = true, .fails = RV_E_CORRUPT, .why = "/secret" });
    expect(answer, "HTTP/1.1 200 OK");
    expect(answer, "\"content\":\"some\"");
    expect(answer, "data: {\"error\":{\"message\":");
    CHECK(!strstr(answer, "secret") && !strstr(answer, "[DONE]") && strstr(answer, "0\r\n\r\n"), "%s",
          answer);
}
