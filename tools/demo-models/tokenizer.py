"""Byte-level BPE in the lfm2 layout: real control tokens in the real places, no merges between digits.

Numbers are then always spelt digit by digit, so that they can be copied and compared; the chat frame is part of the
merge text, so that `user` and `assistant` cost one token each in every turn.
"""

import argparse
import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import tasks

VOCABULARY = 4096
PAD, START, END_OF_TEXT, IM_START, IM_END = 0, 1, 2, 6, 7
CONTROLS = ["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>", "<|im_end|>",
            "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_response_start|>", "<|tool_response_end|>",
            "<|reserved_0|>", "<|reserved_1|>"]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_DIGITS = SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
# Words of everyday notes that the grammar itself does not use: they should not fall apart into letters.
PLAIN_WORDS = """about above across after again against ago all almost along already also although always among another answer any anyone anything
appointment are area around arrive ask asked available away back bad bag bathroom because become bed been before began behind being below
better between bill bird birth boy break breakfast bring brother building bus business but by called came can cannot car care cat
change chapter cheap child city class clean clear clothes coast cold colleague college come company complete computer concert could country couple
cover cup customer cut daily daughter day days dear decide department different dinner do doctor does dog done door down drink drive during each early
easy eat eight either electricity eleven else email emergency employee empty end enough entry equipment even evening ever every everyone example except
exit expect expensive eye face fall family far farm fast father feel few field fifteen fifty file fill find fire fish five flat flight floor flower
follow food for forest forget form forty four free fresh friend from front full further game gave get girl give glad go gone good got government
grandmother great group had half hall hand happen happy hard has have head health hear help her here high him his holiday home horse hospital hot hour house
how however hundred husband ice idea if important information inside instead internet into invoice island its job join just keep key kind kitchen
know lady lake language large last late later law lead learn leave left less let letter level life light like line list little living local long look lot
love low lunch machine made mail main make man many material maybe meal mean meat medicine member message middle might mind minute miss moment
money month more morning most mother mouth move much music must name near nearly need never new news next nice night nine no nobody noise none noon
nor normal not note nothing notice now nurse object of off offer office often oil old on once one online only onto open order other our out outside
over own page pair paper parent parking part party pass password past pay people perhaps phone photo picture piece plan plane plant plate play please
point police policy poor possible post power prepare present president price problem product program project public pull push put quarter question quick quiet
rain reach read ready real reason receive red regular remember rent repair reply report request rest result return rich ride right road
room round rule run safe said sale same sat save saw say school sea season seat second see seem sell send sentence september series serve service set
seven several shall she ship shoe shop short should show side sign simple since sing sister sit site six sixteen size sky sleep slow small smile
snow so some someone something sometimes son song soon sorry sound south speak special spend sport spring staff stage stairs stamp stand
star start state stay step still stone stop store storm story street strong student study such sugar suggest summer sun sure surface system table take talk
tall taxi tea teach team tell temperature ten than thank that the their them then there these they thing think third thirty this those though thousand three
through ticket tiger time tired to today together told tomorrow tonight too took top total touch towards town traffic train travel tree trip true try turn
twelve twenty twice two type under understand university until up upon use used user usually vegetable very village visit visitor voice vote wait walk wall
want warm was wash watch water way we wear weather web website week weekend weight welcome well went were what wheel when where whether which while who whole whose
why wide wife will win wind window wine winter with within without woman wood word work world would write wrong yard year yes yesterday yet you young your zero"""


def _splitter(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def merge_text(examples: int, seed: int = 5) -> Iterator[str]:
    """Exercises of every kind, in the frame in which the model will see them."""
    r = random.Random(seed)
    for n in range(examples):
        example = tasks.sample(r, 0.2 + 0.8 * n / examples)
        for text, reply in example.turns[:2]:
            yield "user\n" + tasks.user_text(example.passages, text, example.bare) + "\nassistant\n" + reply
    plain = PLAIN_WORDS.split()
    for _ in range(150):
        r.shuffle(plain)
        yield " " + " ".join(plain)
    yield from (w.capitalize() for w in plain)


def train(path: str, examples: int = 25000) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = _splitter(SPLIT_DIGITS)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(merge_text(examples), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=CONTROLS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.pre_tokenizer = _splitter(SPLIT)
    tokenizer.save(path)
    return tokenizer


def load(path: str) -> Tokenizer:
    return Tokenizer.from_file(path)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Train the tokenizer of the demo tiers on generated text.")
    options.add_argument("--out", required=True)
    options.add_argument("--examples", type=int, default=25000)
    chosen = options.parse_args()
    made = train(chosen.out, chosen.examples)
    for text in ("user\n[1] The founder of Drejan Institute is Blumem Tuwo.\nQuestion: Who?", "KX-482 1987 14 March 09:35 assistant\n", " appointment colleague Wednesday"):
        print(made.encode(text).tokens)
