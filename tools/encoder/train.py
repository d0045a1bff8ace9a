"""Trains the encoder on the lessons of `ttpmap kb build --encoder-lessons`.

With --leave FOLD the reports of a fold are kept out, figures on them are printed, and --scores writes what the encoder
says of them, for the second stage. Without, it learns from all, and there is nothing to measure on. Seeds are fixed; on
one machine the result is the same twice, between machines it differs by rounding.
"""

import argparse
import json
import math
import random
import sys
import time

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch.nn import functional as F

from bert import CONTEXT, OWN, STATUSES, pretrained

# Texts of like length that are read together, and what their length is a multiple of: products of the same sizes again and again
# are prepared once.
TOGETHER, STEP = 16, 4


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def vocabulary(path, rows, most):
    """The pieces that occur most in the texts, and every one of a single character, with their places in the whole."""
    from collections import Counter

    with open(path) as f:
        pieces = f.read().split("\n")[:-1]
    tokenizer = BertWordPieceTokenizer(path, lowercase=True)
    counts = Counter()
    for at in range(0, len(rows), 4096):
        for e in tokenizer.encode_batch([r["text"] for r in rows[at : at + 4096]], add_special_tokens=False):
            counts.update(e.ids)
    single = lambda p: len(p.removeprefix("##")) == 1 and p.isascii()
    kept = {i for i, p in enumerate(pieces) if p in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") or single(p)}
    for i, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0])):
        if len(kept) >= most:
            break
        kept.add(i)
    return [(pieces[i], i) for i in sorted(kept)]


def saved(path):
    """Weights, techniques and pieces that --out wrote."""
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        meta = f.metadata()
        return {k: f.get_tensor(k) for k in f.keys()}, json.loads(meta["classes"]), json.loads(meta["pieces"])


class Lessons:
    """Rows as tokens and targets."""

    def __init__(self, rows, tokenizer, classes):
        self.rows = rows
        cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        texts = sorted({r[kind] for r in rows for kind in ("text", "heading", "before")})
        tokens = zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False))
        read = {text: [cls, *e.ids[: OWN - 2], sep] for text, e in tokens}
        self.own = [read[r["text"]] for r in rows]
        # What has no tokens says nothing.
        self.context = [[read[r[kind]] if len(read[r[kind]]) > 2 else [] for kind in ("heading", "before")] for r in rows]
        number = {c: i for i, c in enumerate(classes)}
        self.labels = [[number[t] for t, _ in r["labels"] if t in number] for r in rows]
        self.status = [[STATUSES.index(s) for _, s in r["labels"]] for r in rows]

    def batch(self, places, with_context):
        """What the encoder takes: texts of like length together, and where the rows' own tokens and those of their context are."""
        shown = [self.context[i] if with_context(i) else [[], []] for i in places]
        wanted = [[self.own[i], *context] for i, context in zip(places, shown)]
        texts = sorted((len(text), row, kind) for row, texts in enumerate(wanted) for kind, text in enumerate(texts) if text)
        starts, groups, start = {}, [], 0
        for at in range(0, len(texts), TOGETHER):
            some = texts[at : at + TOGETHER]
            lists = [wanted[row][kind] for _, row, kind in some]
            ids, mask = padded(lists + [lists[-1][:1]] * (TOGETHER - len(lists)))
            for place, (_, row, kind) in enumerate(some):
                starts[row, kind] = start + place * ids.shape[1]
            start += ids.numel()
            groups.append((ids, mask))
        run = lambda row, kind, most: [starts[row, kind] + i for i in range(min(most, len(wanted[row][kind])))]
        own, *context = (padded([run(row, kind, most) for row in range(len(places))]) for kind, most in enumerate((OWN, *CONTEXT)))
        return groups, own, context


def padded(lists):
    """Lists of numbers as one matrix, and where they are."""
    longest = -(-max(map(len, lists)) // STEP) * STEP
    pad = lambda lists: torch.tensor([x + [0] * (longest - len(x)) for x in lists], dtype=torch.long)
    return pad(lists), pad([[1] * len(x) for x in lists]).bool()


def batches(lengths, places, size, rng):
    """Batches of like length in an order by chance."""
    places = list(places)
    rng.shuffle(places)
    out = []
    for at in range(0, len(places), size * 50):
        chunk = sorted(places[at : at + size * 50], key=lambda i: lengths[i])
        out += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    rng.shuffle(out)
    return out


def scores(model, lessons, places, with_context, classes):
    """Probabilities of techniques, of behaviour and of statuses, row by row."""
    model.eval()
    places = list(places)
    order = sorted(range(len(places)), key=lambda i: len(lessons.own[places[i]]))
    technique = np.zeros((len(places), classes), np.float32)
    behaviour = np.zeros(len(places), np.float32)
    status = np.zeros((len(places), len(STATUSES)), np.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        for at in range(0, len(order), 64):
            some = order[at : at + 64]
            t, b, s = model(*lessons.batch([places[i] for i in some], lambda _: with_context))
            technique[some] = t.float().softmax(-1).numpy()
            behaviour[some] = b.float().sigmoid().numpy()
            status[some] = s.float().softmax(-1).numpy()
    return technique, behaviour, status


def figures(lessons, places, technique, behaviour, status):
    """What the encoder alone is worth: the mean negative logarithm of a label's probability, average precision of pairs (the five likeliest of
    a row), recall among the best, F1 at its best threshold, area under the curve of behaviour, statuses."""
    gold, hits = 0, [0, 0, 0]
    pairs, right_status, all_status, other, told = [], 0, 0, 0, 0
    for row, i in enumerate(places):
        labels = lessons.labels[i]
        p = technique[row, :-1]
        best = np.argsort(-p, kind="stable")[:5]
        asserted = [c for c, s in zip(labels, lessons.status[i]) if s == 0]
        gold += len(labels)
        for slot, k in enumerate((1, 3, 5)):
            hits[slot] += sum(c in best[:k] for c in labels)
        for s in set(lessons.status[i]):
            said = int(status[row].argmax())
            all_status += 1
            right_status += said == s
            other += s != 0
            told += s != 0 and said != 0
        for c in best:
            pairs.append((float(p[c]) * float(status[row, 0]), c in asserted))
    n_gold = sum(sum(s == 0 for s in lessons.status[i]) for i in places)
    pairs.sort(reverse=True)
    best_f1, right, precisions = (0.0, 0.0), 0, 0.0
    for n, (p, ok) in enumerate(pairs, 1):
        right += ok
        precisions += ok * right / n
        best_f1 = max(best_f1, (2 * right / (n + n_gold), p))
    is_behaviour = np.array([bool(lessons.labels[i]) for i in places])
    order = behaviour.argsort().argsort() + 1
    n1 = is_behaviour.sum()
    auc = (order[is_behaviour].sum() - n1 * (n1 + 1) / 2) / max(1, n1 * (len(places) - n1))
    likelihoods = [-math.log(max(1e-9, float(technique[row, c]))) for row, i in enumerate(places) for c in lessons.labels[i]]
    first = f"negative log likelihood {sum(likelihoods) / max(1, len(likelihoods)):.3f}; average precision {precisions / max(1, n_gold):.4f}; "
    first += " ".join(f"R@{k} {h / max(1, gold):.3f}" for k, h in zip((1, 3, 5), hits))
    return (
        f"{first}; exact F1 {best_f1[0]:.3f} at {best_f1[1]:.2f}; behaviour AUC {auc:.3f}; "
        f"status {right_status / max(1, all_status):.3f}, not asserted {told / max(1, other):.3f}"
    )


@torch.no_grad()
def eight_bits(model):
    """Rounds weights to what the model file keeps: 8 bits, a scale for each row."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) or module is model.words:
            scale = module.weight.abs().amax(1, keepdim=True).div(127).clamp(min=1e-12)
            module.weight.copy_(module.weight.div(scale).round() * scale)


TOP = 16  # techniques of a row that are written


def write_scores(path, rows, places, classes, alone, full):
    """What the encoder says of rows, without context and with it, for `ttpmap kb build --encoder-scores`."""

    def one(said, row):
        technique, behaviour, status = (s[row] for s in said)
        best = np.argsort(-technique[:-1], kind="stable")[:TOP]
        return {
            "top": [[classes[c], round(float(technique[c]), 5)] for c in best],
            "none": round(float(technique[-1]), 5),
            "behaviour": round(float(behaviour), 5),
            "status": [round(float(p), 5) for p in status],
        }

    with open(path, "w") as f:
        for row, i in enumerate(places):
            r = rows[i]
            line = {"set": r["set"], "report": r["report"], "segment": r["segment"], "own": one(alone, row), "context": one(full, row)}
            f.write(json.dumps(line) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("lessons", help="JSON Lines of `ttpmap kb build --encoder-lessons`")
    ap.add_argument("--base", required=True, help="folder with config.json, model.safetensors and vocab.txt of a small BERT")
    ap.add_argument("--leave", default="", help="folds of the reports to keep out, with commas between")
    ap.add_argument("--scores", help="write what the encoder says of the reports kept out")
    ap.add_argument("--out", help="write the trained weights (safetensors)")
    ap.add_argument("--passes", type=float, default=3.0)
    ap.add_argument("--rate", type=float, default=1.5e-4)
    ap.add_argument("--head-rate", type=float, default=3e-3)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--drop", type=float, default=0.1)
    ap.add_argument("--none-share", type=float, default=0.4, help="share of sentences without a label that are seen in a pass")
    ap.add_argument("--text-share", type=float, default=0.25, help="share of the texts that are seen in a pass")
    ap.add_argument("--context-share", type=float, default=0.7, help="how often the context is shown")
    ap.add_argument("--start", help="go on from the weights of an earlier --out, with its vocabulary")
    ap.add_argument("--written", action="store_true", help="one pass, with ttpmap's own reports among the first half of it")
    ap.add_argument("--smoothing", type=float, default=0.0)
    ap.add_argument("--layers", type=int, default=0, help="use only so many of the base's layers")
    ap.add_argument("--pieces", type=int, default=11000, help="size of the vocabulary")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--share", type=float, default=1.0, help="share of the reports to learn from, for a learning curve")
    args = ap.parse_args()
    if args.scores and not args.leave:
        ap.error("--scores is of the reports that --leave keeps out")

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    rows = [r for r in read(args.lessons) if args.written or r["set"] != "written"]
    classes = sorted({t for r in rows for t, _ in r["labels"] if t})
    if args.start:
        weights, told, pieces = saved(args.start)
        if told != classes:
            sys.exit(f"{args.start} learned other techniques than there are in {args.lessons}")
        with open(f"{args.base}/vocab.txt") as f:
            where = {piece: i for i, piece in enumerate(f.read().split("\n")[:-1])}
        kept = [(piece, where[piece]) for piece in pieces]
    else:
        kept = vocabulary(f"{args.base}/vocab.txt", rows, args.pieces)
    tokenizer = BertWordPieceTokenizer({piece: i for i, (piece, _) in enumerate(kept)}, lowercase=True)
    lessons = Lessons(rows, tokenizer, classes)
    own_kinds = {"reports", "narratives", "written"}
    left = {int(f) for f in args.leave.split(",") if f}
    kept_out = lambda r: r["set"] == "reports" and r["fold"] in left
    skipped = lambda r: r["set"] == "reports" and (r["report"] * 0.6180339887) % 1.0 >= args.share
    places = [i for i, r in enumerate(rows) if not kept_out(r) and not skipped(r)]
    model = pretrained(args.base, len(classes) + 1)
    if args.layers:
        # Every second layer of a deep one says more than the first few.
        keep = np.linspace(0, len(model.layers) - 1, args.layers).round().astype(int)
        model.layers = torch.nn.ModuleList(model.layers[i] for i in keep)
    model.words = torch.nn.Embedding.from_pretrained(model.words.weight[[old for _, old in kept]].clone())
    if args.start:
        model.load_state_dict(weights)
    heads = [p for n, p in model.named_parameters() if n.split(".")[0] in ("techniques", "look", "behaviour", "statuses", "marks")]
    body = [p for n, p in model.named_parameters() if p.requires_grad and not any(p is h for h in heads)]
    optimiser = torch.optim.AdamW(
        [{"params": body, "lr": args.rate}, {"params": heads, "lr": args.head_rate}], weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )

    def seen(i):
        """Whether a row is in this pass."""
        r = rows[i]
        if r["set"] in own_kinds:
            return bool(lessons.labels[i]) or rng.random() < args.none_share
        if r["set"] == "texts":
            return rng.random() < args.text_share
        return rng.random() < 0.3  # sentences about a status

    lengths = [len(own) for own in lessons.own]
    plan = []
    if args.written:
        shown = [i for i in places if seen(i)]
        rng.shuffle(shown)
        others = [i for i in shown if rows[i]["set"] != "written"]
        # What real reports look like is to be seen last.
        first = others[: len(others) // 2] + [i for i in shown if rows[i]["set"] == "written"]
        plan = [b for half in (first, others[len(others) // 2 :]) for b in batches(lengths, half, args.batch, rng)]
    for n in range(0 if args.written else math.ceil(args.passes)):
        one = batches(lengths, [i for i in places if seen(i)], args.batch, rng)
        plan += one[: int(len(one) * min(1.0, args.passes - n))]
    print(f"{len(places)} rows, {len(plan)} batches, {len(classes)} techniques", file=sys.stderr)
    model.train()
    start, losses = time.time(), []
    none = len(classes)
    for step, some in enumerate(plan):
        share = step / len(plan)
        factor = min(1.0, share / 0.06) * (1.0 - share)
        for group, rate in zip(optimiser.param_groups, (args.rate, args.head_rate)):
            group["lr"] = rate * factor
        texts, own, context = lessons.batch(some, lambda _: rng.random() < args.context_share)
        target = torch.zeros(len(some), none + 1)
        has_technique, has_behaviour, behaves, status_rows, status_of, weight = [], [], [], [], [], []
        for b, i in enumerate(some):
            labels, kind = lessons.labels[i], rows[i]["set"]
            if labels:
                target[b, labels] = 1.0 / len(set(labels))
            elif kind in own_kinds:
                target[b, none] = 1.0
            has_technique.append(bool(labels) or kind in own_kinds)
            weight.append(rows[i]["weight"])
            has_behaviour.append(kind in own_kinds)
            behaves.append(bool(labels))
            if lessons.status[i] and kind != "texts":
                status_rows.append(b)
                status_of.append(lessons.status[i][0])
        with torch.autocast("cpu", torch.bfloat16):
            t, b, s = model(texts, own, context, args.drop)
        has_technique = torch.tensor(has_technique).float() * torch.tensor(weight)
        if args.smoothing:
            target = target * (1 - args.smoothing) + args.smoothing / (none + 1)
        loss = -((target * F.log_softmax(t.float(), -1)).sum(-1) * has_technique).sum() / len(some)
        hb = torch.tensor(has_behaviour).float()
        loss = loss + 0.5 * (F.binary_cross_entropy_with_logits(b.float(), torch.tensor(behaves).float(), reduction="none") * hb).sum() / len(some)
        if status_rows:
            loss = loss + 0.5 * F.cross_entropy(s.float()[status_rows], torch.tensor(status_of), reduction="sum") / len(some)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(body + heads, 1.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 200 == 0:
            print(f"{step + 1}/{len(plan)} loss {np.mean(losses[-200:]):.3f} {time.time() - start:.0f} s", file=sys.stderr, flush=True)

    eight_bits(model)
    if args.out:
        from safetensors.torch import save_file

        about = {"classes": classes, "pieces": [p for p, _ in kept], "alone": model.alone}
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, args.out, {k: json.dumps(v) for k, v in about.items()})
    test = [i for i, r in enumerate(rows) if kept_out(r)]
    if not test:
        return
    alone = scores(model, lessons, test, False, none + 1)
    print("without context:", figures(lessons, test, *alone), flush=True)
    full = scores(model, lessons, test, True, none + 1)
    print("with context:   ", figures(lessons, test, *full), flush=True)
    if args.scores:
        write_scores(args.scores, rows, test, classes, alone, full)


if __name__ == "__main__":
    main()
