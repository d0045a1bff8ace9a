"""Times scikit-learn's usual pipeline on sentences: tf-idf of words and pairs, and a linear classifier.

usage: benches/sentences.py TRAINING_FOLDER SENTENCES.jsonl

It is trained on ttpmap's own sentences (data/training, a technique to each) and asked for the probabilities of the
sentences of a file, one JSON string a line, in batches of 256, as a program would that reads report after report.
Prints the sentences, classes and seconds of the best of five rounds, training and loading left out.
"""

import json
import pathlib
import re
import sys
import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

BATCH = 256


def labelled(folder):
    texts, labels = [], []
    for path in sorted(pathlib.Path(folder).glob("*.txt")):
        technique = None
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("## "):
                technique = line[3:].split()[0]
            elif line.strip() and technique and not line.startswith("#"):
                texts.append(re.sub(r"\s*\[T[^]]*\]\s*$", "", line.strip()))
                labels.append(technique)
    return texts, labels


def main():
    texts, labels = labelled(sys.argv[1])
    sentences = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, stop_words="english")
    pipeline = make_pipeline(vectors, SGDClassifier(loss="log_loss", max_iter=5, tol=None, random_state=0))
    pipeline.fit(texts, labels)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for at in range(0, len(sentences), BATCH):
            pipeline.predict_proba(sentences[at : at + BATCH])
        best = min(best, time.perf_counter() - start)
    print(len(sentences), len(pipeline.classes_), best)


if __name__ == "__main__":
    main()
