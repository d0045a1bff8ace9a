"""Compares the program's encoder with PyTorch's on lessons: the largest difference of a probability.

    ttpmap kb answers --model FILE lessons.jsonl | python3 check.py WEIGHTS lessons.jsonl --base FOLDER

With --cases it writes what PyTorch says instead, for the program's own test.
"""

import argparse
import json
import sys

import torch
from tokenizers import BertWordPieceTokenizer

from bert import pretrained
from train import Lessons, read, saved, scores


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("weights", help="safetensors of train.py --out")
    ap.add_argument("lessons")
    ap.add_argument("--base", required=True, help="the folder that train.py had")
    ap.add_argument("--most", type=float, default=0.002, help="fail where a probability differs by more")
    ap.add_argument("--cases", action="store_true", help="write what PyTorch says of the lessons, the best three of each")
    args = ap.parse_args()
    state, classes, pieces = saved(args.weights)
    model = pretrained(args.base, len(classes) + 1)
    model.words = torch.nn.Embedding(len(pieces), state["words.weight"].shape[1])
    model.layers = model.layers[: 1 + max(int(k.split(".")[1]) for k in state if k.startswith("layers."))]
    model.load_state_dict(state)
    lessons = Lessons(read(args.lessons), BertWordPieceTokenizer({p: i for i, p in enumerate(pieces)}, lowercase=True), classes)
    technique, behaviour, status = scores(model, lessons, range(len(lessons.rows)), True, len(classes) + 1)
    if args.cases:
        cases = []
        for row, lesson in enumerate(lessons.rows):
            best = technique[row, :-1].argsort()[::-1][:3]
            said = {"top": [[classes[i], round(float(technique[row, i]), 6)] for i in best], "none": round(float(technique[row, -1]), 6)}
            said |= {"behaviour": round(float(behaviour[row]), 6), "status": [round(float(p), 6) for p in status[row]]}
            cases.append({**{kind: lesson[kind] for kind in ("text", "heading", "before")}, **said})
        print(json.dumps(cases, indent=1))
        return
    number = {c: i for i, c in enumerate(classes)}
    worst, rows = 0.0, 0
    for row, line in enumerate(sys.stdin):
        said, rows = json.loads(line), rows + 1
        pairs = [(p, technique[row, number[c]]) for c, p in said["top"]]
        pairs += [(said["none"], technique[row, -1]), (said["behaviour"], behaviour[row]), *zip(said["status"], status[row])]
        off = max(abs(a - b) for a, b in pairs)
        if off > args.most:
            print(f"{off:.5f}: {lessons.rows[row]['text'][:100]}")
        worst = max(worst, off)
    print(f"{rows} texts, largest difference {worst:.6f}")
    sys.exit(worst > args.most or rows != len(lessons.rows))


if __name__ == "__main__":
    main()
