"""OpenAI's own client against the server: what it can ask for, it gets, or is told that it does not."""
import json

import openai
import pytest

from http_json import post

MESSAGES = [{"role": "user", "content": "Question: Who wrote the letter?"}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client):
    return next(m.id for m in client.models.list() if m.ruvllm["kind"] == "generate")


def test_models_are_listed_and_found(client, model):
    models = list(client.models.list())
    assert {m.ruvllm["kind"] for m in models} == {"loop", "generate", "embed"}
    assert all(m.object == "model" and m.owned_by == "ruvllm" for m in models)
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("gpt-4o")
    assert e.value.code == "model_not_found" and e.value.param == "model"


def test_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0)
    assert answer.object == "chat.completion" and answer.model == model and answer.system_fingerprint.startswith("fp_")
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens and 0 < usage.completion_tokens <= 8


def test_a_stream_says_the_same_as_the_whole(client, model):
    ask = dict(model=model, messages=MESSAGES, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert len({c.id for c in chunks}) == 1 and all(c.object == "chat.completion.chunk" for c in chunks)
    usage = chunks.pop()
    assert usage.choices == [] and usage.usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(c.choices[0].finish_reason is None for c in chunks[:-1])


def test_completions_whole_and_streamed(client, model):
    ask = dict(model=model, prompt="The town of", max_tokens=12, temperature=0)
    whole = client.completions.create(**ask)
    assert whole.object == "text_completion" and whole.choices[0].text
    chunks = list(client.completions.create(**ask, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    two = client.completions.create(model=model, prompt=["The town of", "The town of"], max_tokens=12, temperature=0)
    assert [c.text for c in two.choices] == [whole.choices[0].text] * 2 and [c.index for c in two.choices] == [0, 1]


def test_the_same_seed_gives_the_same_text_and_another_another(client, model):
    def text(seed):
        answer = client.completions.create(model=model, prompt="Once", max_tokens=40, temperature=2, seed=seed, extra_body={"min_p": 0})
        return answer.choices[0].text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1


def test_choices_differ_and_are_counted_once(client, model):
    one = client.completions.create(model=model, prompt="Once", max_tokens=20, temperature=2, seed=1, extra_body={"min_p": 0})
    four = client.completions.create(model=model, prompt="Once", max_tokens=20, temperature=2, seed=1, n=4, extra_body={"min_p": 0})
    assert [c.index for c in four.choices] == [0, 1, 2, 3] and four.choices[0].text == one.choices[0].text
    assert len({c.text for c in four.choices}) > 1
    assert four.usage.prompt_tokens == one.usage.prompt_tokens and four.usage.completion_tokens > one.usage.completion_tokens
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, n=2, max_tokens=5, stream=True))
    assert [c.choices[0].index for c in chunks if c.choices[0].finish_reason] == [0, 1]


def test_stop_strings_end_the_text_and_are_not_in_it(client, model):
    ask = dict(model=model, prompt="one two three one two three one two three one", max_tokens=40, temperature=0)
    text = client.completions.create(**ask).choices[0].text
    assert len(text) >= 4, "the model has to say something for this test"
    stop = text[2:4]
    cut = client.completions.create(**ask, stop=[stop, "\x01never"])
    assert cut.choices[0].text == text[:text.index(stop)] and cut.choices[0].finish_reason == "stop"
    streamed = "".join(c.choices[0].text for c in client.completions.create(**ask, stop=stop, stream=True))
    assert streamed == text[:text.index(stop)]


def test_a_question_of_many_parts_is_read_whole(server):
    parts = [{"type": "text", "text": "x" * 1000}] * 400
    error = post(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]}).error
    assert error["code"] == "context_length_exceeded", error
    parts = [{"type": "text", "text": "a\0b"}]
    error = post(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]}).error
    assert "zero bytes" in error["message"], error


def test_logprobs_of_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert 0 < len(tokens) <= 6
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == max(t.logprob for t in token.top_logprobs)
        assert token.token == token.top_logprobs[0].token, "greedy takes the best"
    text = b"".join(bytes(t.bytes) for t in tokens).decode("utf-8", "replace")
    assert text.startswith(answer.choices[0].message.content[:3])
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=6, temperature=0, logprobs=True, stream=True))
    streamed = [t.token for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert streamed == [t.token for t in tokens]


def test_logprobs_of_completions(client, model):
    answer = client.completions.create(model=model, prompt="The letter was written by", max_tokens=5, temperature=0, logprobs=2)
    logs = answer.choices[0].logprobs
    assert len(logs.tokens) == len(logs.token_logprobs) == len(logs.top_logprobs) == len(logs.text_offset)
    assert logs.text_offset[0] == 0 and all(len(t) <= 2 for t in logs.top_logprobs)


def test_logit_bias_can_forbid_a_token(client, model, server):
    ask = {"model": model, "prompt": "The letter was written by", "max_tokens": 1, "temperature": 0, "repeat_penalty": 1, "logprobs": 2}
    first = post(server, "/v1/completions", ask).json["choices"][0]["logprobs"]
    best, second = first["tokens"][0], [t for t in first["top_logprobs"][0] if t != first["tokens"][0]][0]
    for token in range(0, 4096):  # ids are not in the answer: forbid blocks until the best is gone
        if token % 512:
            continue
        bias = {str(t): -100 for t in range(token, token + 512)}
        answer = post(server, "/v1/completions", {**ask, "logit_bias": bias}).json["choices"][0]["logprobs"]["tokens"][0]
        if answer != best:
            return
    pytest.fail(f"no bias took {best!r} away (next would be {second!r})")


def test_embeddings(client):
    answer = client.embeddings.create(model="hash", input=["one", "two words"])  # base64, decoded by the client
    plain = client.embeddings.create(model="hash", input=["one", "two words"], encoding_format="float")
    assert [e.index for e in answer.data] == [0, 1] and answer.model in ("static-minilm-256-3", "hash")
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == (0 if answer.model == "hash" else 3)
    for a, b in zip(answer.data, plain.data):
        assert len(a.embedding) in (256, 384) and abs(sum(x * x for x in a.embedding) - 1) < 1e-3
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-7


def test_auto_runs_the_whole_loop(client, server):
    note = post(server, "/v1/memories", {"text": "The letter was written by Oda Lund."}).json["id"]
    ask = dict(model="auto", messages=[{"role": "user", "content": "Who wrote the letter?"}])
    answer = client.chat.completions.create(**ask)
    assert note in [s["id"] for s in answer.ruvllm["sources"]]
    assert answer.ruvllm["routing_info"]["model"] == answer.model
    done = post(server, "/v1/feedback", {"request_id": answer.ruvllm["request_id"], "rating": 3})
    assert done.status == 200
    chunks = list(client.chat.completions.create(**ask, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == answer.choices[0].message.content
    assert [s["id"] for s in chunks[-1].ruvllm["sources"]] == [s["id"] for s in answer.ruvllm["sources"]]


def test_a_conversation_with_all_kinds_of_messages_is_taken(client, model):
    messages = [{"role": "developer", "content": "Answer briefly."},
                {"role": "user", "content": [{"type": "text", "text": "How warm is it"}, {"type": "text", "text": "in Oslo?"}]},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": "Oslo"})}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "7 degrees"}]
    tools = [{"type": "function", "function": {"name": "weather", "description": "Weather now", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
    with_tools = client.chat.completions.create(model=model, messages=messages, tools=tools, max_tokens=4)
    without = client.chat.completions.create(model=model, messages=messages, tools=tools, tool_choice="none", max_tokens=4)
    assert with_tools.usage.prompt_tokens > without.usage.prompt_tokens, "the tools have to be in the prompt"


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(client, model, server):
    words = "word " * 20000
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": words}])
    error = e.value.body
    assert error["type"] == "exceed_context_size_error" and error["n_prompt_tokens"] > 20000 > error["n_ctx"] > 0
    n_ctx = client.models.retrieve(model).ruvllm["n_ctx"]
    assert error["n_ctx"] == n_ctx
    for body in ({"model": model, "prompt": words}, {"model": model, "prompt": [1] * (n_ctx + 1)}):
        answer = post(server, "/v1/completions", body)
        assert answer.status == 400 and answer.error["n_ctx"] == n_ctx, answer.body
    for body in ({"query": words}, ):
        answer = post(server, "/v1/query", body)
        assert answer.status == 400 and answer.error["type"] == "exceed_context_size_error", answer.body


@pytest.mark.parametrize("fields, param", [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}, "messages[0].content[0].type"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"n": 9}, "n"),
    ({"n": 0}, "n"),
    ({"seed": "1"}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stream": "true"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"tools": [{"type": "function"}]}, "tools[0]"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": []}, "functions"),
    ({"temprature": 1}, "temprature"),
    ({"logit_bias": {"99999999": 100}}, "logit_bias"),
    ({"messages": [{"role": "user", "content": "x", "foo": 1}]}, "messages[0].foo"),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "audio": {"id": "a"}}]}, "messages[1].audio"),
    ({"tools": [{"type": "function", "function": {"name": "f", "foo": 1}}]}, "tools[0].function.foo"),
    ({"tools": [{"type": "function", "function": {"name": "f"}, "foo": 1}]}, "tools[0].foo"),
])
def test_what_cannot_be_done_is_refused_by_name(server, model, fields, param):
    answer = post(server, "/v1/chat/completions", {"model": model, "messages": MESSAGES, "max_tokens": 1, **fields})
    assert (answer.status, answer.error["param"], answer.error["type"]) == (400, param, "invalid_request_error"), answer.body


def test_a_message_may_come_back_as_a_client_keeps_it(client, model):
    first = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4)
    messages = [*MESSAGES, first.choices[0].message, {"role": "user", "name": "anna", "content": "And then?"}]
    client.chat.completions.create(model=model, messages=messages, max_tokens=4)
    kept = first.choices[0].message.model_dump()  # every field of the library's message, null where it is not set
    assert {"role", "content", "refusal", "annotations", "audio", "function_call", "tool_calls"} <= set(kept)
    client.chat.completions.create(model=model, messages=[*MESSAGES, kept, messages[-1]], max_tokens=4)


def test_a_number_that_no_machine_holds_is_named(server, model):
    answer = post(server, "/v1/chat/completions", {"model": model, "messages": MESSAGES, "seed": 2 ** 64})
    assert answer.status == 400 and "seed: a number is too large" in answer.error["message"], answer.body


def test_a_token_that_the_model_does_not_have_is_the_prompts(server, model):
    answer = post(server, "/v1/completions", {"model": model, "prompt": [1, 99999999]})
    assert (answer.status, answer.error["param"]) == (400, "prompt"), answer.body


@pytest.mark.parametrize("fields", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"n": 2},
                                    {"messages": [{"role": "assistant", "content": "x"}]}, {"session_id": "a/b"}])
def test_the_loop_says_what_it_does_not_take(server, fields):
    answer = post(server, "/v1/chat/completions", {"model": "auto", "messages": MESSAGES, **fields})
    assert answer.status == 400, answer.body


def test_unknown_models_and_bad_bodies_have_openai_errors(client, server):
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert e.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="auto", messages=[])
    assert post(server, "/v1/completions", {"prompt": "x", "model": "auto"}).status == 400
