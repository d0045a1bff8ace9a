"""The encoder as PyTorch sees it: BERT's layers (Devlin et al. 2018) under three heads."""

import json

import torch
from torch import nn
from torch.nn import functional as F

OWN = 64  # tokens of a text that are read, [CLS] and [SEP] among them
CONTEXT = (16, 32)  # of these, what is heard of the heading above, and of the sentence before
STATUSES = ["asserted", "prevented", "negated", "hypothetical", "defensive", "generic"]


class Layer(nn.Module):
    def __init__(self, width, inner, heads, eps):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width, eps)

    def forward(self, x, mask, context):
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        if context is not None:
            # Nobody asks what becomes of the context: it needs no queries.
            more = F.linear(context, self.qkv.weight[w:], self.qkv.bias[w:])
            more = more.view(b, -1, 2, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([k, more[0]], 2), torch.cat([v, more[1]], 2)
        # By hand: for short sequences it is several times as fast as the fused kernel.
        a = (torch.matmul(q, k.transpose(-1, -2)) * (w // self.heads) ** -0.5 + mask).softmax(-1).to(v.dtype)
        x = self.norm1(x + self.out(torch.matmul(a, v).transpose(1, 2).reshape(b, t, w)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """Texts with what stands before them to logits of techniques (the last is "none"), of behaviour, and of statuses.

    The first half of the layers reads every text by itself; in the others a text also hears the heading above it and the sentence
    before it, as the first half left them. So a sentence that is read, and is context of the next, is read once.
    """

    def __init__(self, config, classes):
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], width)
        self.places = nn.Embedding(config["max_position_embeddings"], width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps)
        make = lambda: Layer(width, config["intermediate_size"], config["num_attention_heads"], eps)
        self.layers = nn.ModuleList(make() for _ in range(config["num_hidden_layers"]))
        self.marks = nn.Embedding(2, width)
        nn.init.zeros_(self.marks.weight)
        # What a piece says for each technique, and (look) how much it is heard for each (Mullenbach et al. 2018).
        self.techniques = nn.Linear(width, classes)
        self.look = nn.Linear(width, classes)
        self.behaviour = nn.Linear(width, 1)
        self.statuses = nn.Linear(width, len(STATUSES))
        for head in (self.techniques, self.behaviour, self.statuses):
            nn.init.zeros_(head.bias)
            nn.init.normal_(head.weight, std=0.02)
        # At first all pieces alike.
        nn.init.zeros_(self.look.weight)
        nn.init.zeros_(self.look.bias)

    @property
    def alone(self):
        """Layers that read a text by itself."""
        return len(self.layers) // 2

    def by_itself(self, ids, mask, drop):
        """What the first half of the layers makes of texts: token IDs and which of them are there."""
        x = self.words(ids) + self.places.weight[: ids.shape[1]] + self.types.weight[0]
        x = F.dropout(self.norm(x), drop, self.training)
        bias = bias_of(mask)
        for layer in self.layers[: self.alone]:
            x = layer(x, bias, None)
        return x

    def together(self, x, mask, context, drop):
        """The answers for texts as the first half of the layers left them. `context` are the same of headings and of sentences before,
        no longer than they are heard, each with its mask.
        """
        bias, before = bias_of(mask), None
        if any(m.shape[1] for _, m in context):
            before = torch.cat([rows + mark for (rows, _), mark in zip(context, self.marks.weight)], 1)
            bias = torch.cat([bias, *(bias_of(m) for _, m in context)], -1)
        for layer in self.layers[self.alone :]:
            x = layer(x, bias, before)
        there = mask.unsqueeze(-1)
        says = self.techniques(F.dropout(x, 2 * drop, self.training)).float()
        heard = self.look(x).float().masked_fill(~there, float("-inf")).softmax(1)
        mean = (x * there).sum(1) / there.sum(1)
        mean = F.dropout(mean, 2 * drop, self.training)
        return (says * heard).sum(1), self.behaviour(mean).squeeze(-1), self.statuses(mean)

    def forward(self, texts, own, context, drop=0.0):
        """`texts` are some matrices of token IDs, with masks, of texts of like length. Their tokens, one behind the other, are what
        `own` and `context` (of headings, of sentences before) tell places of, with masks.
        """
        flat = torch.cat([self.by_itself(ids, mask, drop).flatten(0, 1) for ids, mask in texts])
        # Rows of a matrix by their places: its backward pass is a sum.
        rows = lambda places: F.embedding(places, flat)
        return self.together(rows(own[0]), own[1], [(rows(places), mask) for places, mask in context], drop)


def bias_of(mask):
    """What is added to the scores of attention: minus infinity where nothing is there."""
    return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[:, None, None, :]


def pretrained(folder, classes):
    """The encoder with the weights of a BERT in Hugging Face's format, its heads new."""
    from safetensors.torch import load_file

    with open(f"{folder}/config.json") as f:
        config = json.load(f)
    model = Encoder(config, classes)
    old = load_file(f"{folder}/model.safetensors")
    old = {k.removeprefix("bert."): v for k, v in old.items()}
    state = model.state_dict()

    def put(name, *olds):
        state[name].copy_(torch.cat([old[o] for o in olds]))

    put("words.weight", "embeddings.word_embeddings.weight")
    put("places.weight", "embeddings.position_embeddings.weight")
    put("types.weight", "embeddings.token_type_embeddings.weight")
    for kind in ("weight", "bias"):
        put(f"norm.{kind}", f"embeddings.LayerNorm.{kind}")
        for i in range(config["num_hidden_layers"]):
            at = f"encoder.layer.{i}."
            put(f"layers.{i}.qkv.{kind}", *(f"{at}attention.self.{p}.{kind}" for p in ("query", "key", "value")))
            put(f"layers.{i}.out.{kind}", f"{at}attention.output.dense.{kind}")
            put(f"layers.{i}.norm1.{kind}", f"{at}attention.output.LayerNorm.{kind}")
            put(f"layers.{i}.up.{kind}", f"{at}intermediate.dense.{kind}")
            put(f"layers.{i}.down.{kind}", f"{at}output.dense.{kind}")
            put(f"layers.{i}.norm2.{kind}", f"{at}output.LayerNorm.{kind}")
    model.load_state_dict(state)
    return model
