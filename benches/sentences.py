"""Times scikit-learn's usual pipeline on sentences: tf-idf of words and pairs, and a linear classifier.

usage: benches/sentences.py TRAINING.json SENTENCES.json

It is trained on pairs of technique and sentence and asked for the probabilities of other sentences, in batches of 256, as
a program would that reads report after report. Both files are JSON arrays.
Prints the sentences, classes and seconds of the best of five rounds, training and loading left out.
"""

import json
import sys
import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

BATCH = 256


def main():
    training, sentences = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:3])
    labels, texts = zip(*training)
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
