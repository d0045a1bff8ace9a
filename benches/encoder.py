"""Times the encoder beside onnxruntime with the same weights, on one core, in the same run.

usage: benches/encoder.py PROGRAM MODEL

Both read sentences of data/training/reports, each with the one before it as context, and each once: the program through
`kb answers`, start and opening taken off; onnxruntime in two graphs, a text by itself and with its context, in batches of
like length, texts cut into pieces beforehand. Needs torch, onnx, onnxruntime and tokenizers. Prints both in sentences a
second, and the largest difference of a probability.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
import torch
from tokenizers import BertWordPieceTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "encoder"))
from model_file import load, sections  # noqa: E402
from bert import CONTEXT  # noqa: E402
from train import Lessons, padded  # noqa: E402

COUNT = 2000


def lessons():
    rows = []
    for path in sorted((ROOT / "data" / "training" / "reports").glob("*.txt")):
        before = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.partition("\t")[0].strip()
            if line.startswith("=== "):
                text = ""
            elif text:
                rows.append({"text": text, "heading": "", "before": before, "labels": []})
            before = text
            if len(rows) == COUNT:
                return rows
    return rows


class Half(torch.nn.Module):
    """One half of the encoder as a graph."""

    def __init__(self, model, run):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, *inputs):
        return self.run(*inputs)


def stacked(name, lists):
    """Rows of numbers of several texts as one array, and where they are."""
    longest = max(1, *(len(rows) for rows in lists))
    out, there = np.zeros((len(lists), longest, lists[0].shape[1]), np.float32), np.zeros((len(lists), longest), bool)
    for i, rows in enumerate(lists):
        out[i, : len(rows)], there[i, : len(rows)] = rows, True
    return {name: out, f"{name}_mask": there}


def seconds(command):
    start = time.perf_counter()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - start, out


def main():
    program, path = sys.argv[1:3]
    rows = lessons()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        many, none = folder / "many.jsonl", folder / "one.jsonl"
        many.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        none.write_text("", encoding="utf-8")
        ask = lambda file: min((seconds(["taskset", "-c", "0", program, "kb", "answers", "--model", path, file]) for _ in range(5)), key=lambda t: t[0])
        (whole, out), (opening, _) = ask(many), ask(none)
        model, pieces = load(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1

        def session(name, run, inputs, example, output):
            file = folder / f"{name}.onnx"
            axes = {i: {0: "texts", 1: f"pieces of {i.removesuffix('_mask')}"} for i in inputs}
            torch.onnx.export(Half(model, run), example, str(file), input_names=inputs, output_names=[output], dynamic_axes=axes, dynamo=False)
            return onnxruntime.InferenceSession(str(file), options)

        there = torch.ones(2, 9, dtype=torch.bool)
        alone = session("alone", lambda ids, mask: model.by_itself(ids, mask, 0.0), ["ids", "ids_mask"], (torch.zeros(2, 9, dtype=torch.long), there), "rows")
        rows_of = torch.zeros(2, 9, model.words.weight.shape[1])
        # There are no headings.
        together = lambda x, mask, before, its: model.together(x, mask, [(x[:, :0], mask[:, :0]), (before, its)], 0.0)[0]
        second = session("together", together, ["own", "own_mask", "before", "before_mask"], (rows_of, there, rows_of, there), "techniques")
        inputs = Lessons(rows, BertWordPieceTokenizer({p: i for i, p in enumerate(pieces)}, lowercase=True), [])
        texts = sorted({tuple(t) for i in range(len(rows)) for t in (inputs.own[i], inputs.context[i][1]) if t}, key=lambda t: (len(t), t))
        order = sorted(range(len(rows)), key=lambda i: len(inputs.own[i]))
        eight = lambda some: [some[i : i + 8] for i in range(0, len(some), 8)]
        cut = [(some, dict(zip(("ids", "ids_mask"), (x.numpy() for x in padded([list(t) for t in some]))))) for some in eight(texts)]
        best, none_of = float("inf"), np.zeros(len(rows))
        for _ in range(3):
            start = time.perf_counter()
            states = {}
            for some, feed in cut:
                for text, row in zip(some, alone.run(["rows"], feed)[0]):
                    states[text] = row[: len(text)]
            for places in eight(order):
                own = [states[tuple(inputs.own[i])] for i in places]
                before = [states[tuple(c)][: CONTEXT[1]] if (c := inputs.context[i][1]) else rows_of[0, :0].numpy() for i in places]
                logits = second.run(["techniques"], {**stacked("own", own), **stacked("before", before)})[0]
                p = np.exp(logits - logits.max(-1, keepdims=True))
                none_of[places] = p[:, -1] / p.sum(-1)
            best = min(best, time.perf_counter() - start)
        off = max(abs(json.loads(line)["none"] - none_of[i]) for i, line in enumerate(out.splitlines()))
        tokens = sum(map(len, inputs.own)) / len(rows)
        ours = whole - opening
    print(json.dumps({"sentences": len(rows), "pieces": tokens, "ours": ours, "opening": opening, "theirs": best, "off": float(off), "size": len(pathlib.Path(path).read_bytes()), "runtime": onnxruntime.__version__, "techniques": len(sections(path)["ECLS"]) // 4}))


if __name__ == "__main__":
    main()
