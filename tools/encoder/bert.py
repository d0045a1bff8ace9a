"""The encoder as PyTorch sees it: BERT's layers (Devlin et al. 2018) under three heads."""

import json

import torch
from torch import nn
from torch.nn import functional as F

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

    def forward(self, x, mask):
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        # By hand: for short sequences it is several times as fast as the fused kernel.
        a = (torch.matmul(q, k.transpose(-1, -2)) * (w // self.heads) ** -0.5 + mask).softmax(-1).to(v.dtype)
        x = self.norm1(x + self.out(torch.matmul(a, v).transpose(1, 2).reshape(b, t, w)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """Token IDs, token types and a mask to logits of techniques (the last is "none"), of behaviour, and of statuses."""

    def __init__(self, config, classes):
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], width)
        self.places = nn.Embedding(config["max_position_embeddings"], width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps)
        make = lambda: Layer(width, config["intermediate_size"], config["num_attention_heads"], eps)
        self.layers = nn.ModuleList(make() for _ in range(config["num_hidden_layers"]))
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

    def read(self, ids, types, mask, drop=0.0):
        """The last layer's rows, of every token."""
        x = self.words(ids) + self.places.weight[: ids.shape[1]] + self.types(types)
        x = F.dropout(self.norm(x), drop, self.training)
        bias = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(~mask, float("-inf"))[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias.to(x.dtype))
        return x

    def forward(self, ids, types, mask, drop=0.0):
        x = self.read(ids, types, mask, drop)
        # The tokens of the sentence itself.
        own = (mask & (types == 0)).unsqueeze(-1)
        says = self.techniques(F.dropout(x, 2 * drop, self.training)).float()
        heard = self.look(x).float().masked_fill(~own, float("-inf")).softmax(1)
        mean = (x * own).sum(1) / own.sum(1)
        mean = F.dropout(mean, 2 * drop, self.training)
        return (says * heard).sum(1), self.behaviour(mean).squeeze(-1), self.statuses(mean)


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
