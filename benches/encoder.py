"""Times the encoder beside onnxruntime with the same weights, on one core, in the same run.

usage: benches/encoder.py PROGRAM MODEL

Both read the sentences of data/training, each with the one before it as context: the program through `kb answers`,
start and opening taken off; onnxruntime in batches of like length, texts cut into pieces beforehand. Needs torch,
onnx, onnxruntime and tokenizers. Prints both in sentences a second, and the largest difference of a probability.
"""

import json
import pathlib
import re
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
from train import Lessons  # noqa: E402

COUNT = 2000


def lessons():
    rows, before = [], ""
    for path in sorted((ROOT / "data" / "training").glob("*.txt")):
        for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
            if line and not line.startswith(("## ", "#")):
                text = re.sub(r"\s*\[T[^]]*\]\s*$", "", line)
                rows.append({"text": text, "context": before, "labels": []})
                before = text
    return rows[:: max(1, len(rows) // COUNT)][:COUNT]


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
        onnx = folder / "encoder.onnx"
        names = ["ids", "types", "mask"]
        example = (torch.zeros(2, 9, dtype=torch.long), torch.zeros(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.bool))
        axes = {name: {0: "texts", 1: "pieces"} for name in names}
        torch.onnx.export(model, example, str(onnx), input_names=names, output_names=["t", "b", "s"], dynamic_axes=axes, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(onnx), options)
        inputs = Lessons(rows, BertWordPieceTokenizer({p: i for i, p in enumerate(pieces)}, lowercase=True), [])
        order = sorted(range(len(rows)), key=lambda i: len(inputs.own[i]) + len(inputs.context[i]))
        batches = [order[i : i + 8] for i in range(0, len(order), 8)]
        feeds = [dict(zip(names, (x.numpy() for x in inputs.batch(b, lambda _: True)))) for b in batches]
        best, none_of = float("inf"), np.zeros(len(rows))
        for _ in range(3):
            start = time.perf_counter()
            for places, feed in zip(batches, feeds):
                logits = session.run(["t"], feed)[0]
                p = np.exp(logits - logits.max(-1, keepdims=True))
                none_of[places] = p[:, -1] / p.sum(-1)
            best = min(best, time.perf_counter() - start)
        off = max(abs(json.loads(line)["none"] - none_of[i]) for i, line in enumerate(out.splitlines()))
        tokens = sum(len(inputs.own[i]) + len(inputs.context[i]) for i in range(len(rows))) / len(rows)
        ours = whole - opening
    print(json.dumps({"sentences": len(rows), "pieces": tokens, "ours": ours, "opening": opening, "theirs": best, "off": float(off), "size": len(pathlib.Path(path).read_bytes()), "runtime": onnxruntime.__version__, "techniques": len(sections(path)["ECLS"]) // 4}))


if __name__ == "__main__":
    main()
