# %% [markdown]
# # 1. Tokens: from characters to numbers
#
# A language model is a function of numbers. Text is not made of numbers. So the first thing to do is to give each piece of a text a number, in a way that can be undone. The pieces are called *tokens*, their numbers *ids*.
#
# The simplest pieces are characters. Take a short text and list the characters that it has:

# %%
text = "to be or not to be"
characters = sorted(set(text))
print(characters)

# %% [markdown]
# The place of a character in this list is its id. Two dictionaries, one for each direction, are all that it takes:

# %%
id_of = {character: number for number, character in enumerate(characters)}
character_of = {number: character for character, number in id_of.items()}

ids = [id_of[character] for character in text]
print(ids)
print("".join(character_of[number] for number in ids))

# %% [markdown]
# That is a whole tokenizer: *encode* turns text into ids, *decode* turns ids into text, and what comes back is what went in. The list of pieces is the *vocabulary*. Its size, here 7, is written V; it will return on every page.
#
# The toolkit has the same as a class:

# %%
import toolkit
from toolkit import CharTokenizer

tokenizer = CharTokenizer.train([text])
print(tokenizer.vocab_size, tokenizer.encode("not to be"))
print(tokenizer.decode(tokenizer.encode("not to be")))

# %% [markdown]
# A character that was not in the training text has no id. That is an error, and it says so:

# %%
try:
    tokenizer.encode("to see")
except toolkit.ToolkitError as error:
    print(error)

# %% [markdown]
# ## Fewer tokens
#
# A model reads and writes one token at a time. With 18 tokens for 18 characters it works hard for little. Could a token be more than a character? Whole words would be shorter, but there are very many of them, and a new word would have no id.
#
# *Byte pair encoding* (BPE) lies between the two. It starts from single characters and asks: which two neighbours occur together most often? Those two become one new token. Then it asks again.

# %%
from collections import Counter
from itertools import pairwise

pairs = Counter(pairwise(ids))
for (left, right), count in pairs.most_common(4):
    print(repr(character_of[left] + character_of[right]), count)

# %% [markdown]
# "to" occurs twice, and so do some others; of equal ones let us take the first. (They are counted in the order of the text.) Merging means: wherever the pair stands, put a new id.


# %%
def merge(ids, pair, new_id):
    merged = []
    position = 0
    while position < len(ids):
        if tuple(ids[position : position + 2]) == pair:
            merged.append(new_id)
            position += 2
        else:
            merged.append(ids[position])
            position += 1
    return merged


tokens = dict(character_of)
for new_id in range(len(characters), len(characters) + 4):
    pair = Counter(pairwise(ids)).most_common(1)[0][0]
    ids = merge(ids, pair, new_id)
    tokens[new_id] = tokens[pair[0]] + tokens[pair[1]]
    print(f"{new_id}: {tokens[new_id]!r:8} {[tokens[i] for i in ids]}")

# %% [markdown]
# Four merges, and 18 tokens have become 10. Each merge makes the text shorter and the vocabulary larger by one. Nothing is lost: a token stands for its characters.
#
# Real tokenizers do this with bytes instead of characters (so that no text is ever unknown), do not merge across words, and make thousands of merges. Here the toolkit's learns from a story, 100,000 characters that a small grammar in the toolkit tells, laid out like a play. A vocabulary of 384 is the 256 bytes and 128 merges:

# %%
from toolkit.learning import story

text = story()
bpe = toolkit.BPETokenizer.train([text], vocab_size=384)
line = "Nora, will you give me the violin? We want to dance."
print([bpe.token_bytes(token).decode() for token in bpe.encode(line)])
print(len(line), "characters,", len(bpe.encode(line)), "tokens")

# %% [markdown]
# Frequent words are one token (a space before a word belongs to it), rare ones are several. The next pages use characters, because then every number stays small enough to look at. Everything in them works the same with BPE.
#
# ## Exercises
#
# `toolkit learn start 1` writes a file `page_1.py` with three functions to fill in, and `toolkit learn check 1` tries them and says what is wrong.
#
# 1. `build_vocabulary(text)`: a dictionary from characters to ids.
# 2. `count_pairs(ids)`: how often each pair of neighbours occurs.
# 3. `merge(ids, pair, new_id)`: without looking above. What should happen to `[1, 1, 1]` and the pair `(1, 1)`?
#
# Next: [2. Batches](2_batches.md). More about tokenizers: [tokenizers.md](../tokenizers.md), [bpe.md](../bpe.md).
