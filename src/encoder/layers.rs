//! The transformer's layers, over many texts at a time. Texts stand one behind the other without anything between.

use std::ops::Range;

use zerocopy::byteorder::little_endian::{F32, U32};

use super::WHOLE;
use super::arithmetic::{LANES, exp, gelu, largest, normalise, softmax_padded, whole as rounded};
use super::kernel::{BLOCK, Kernel, Sums, TILE, WIDE, Work, limit};
use crate::index::Index;

/// Pieces of a text that have a place: more are not read.
pub(super) const PLACES: usize = super::OWN + super::CONTEXT;
/// Numbers of a head of attention.
const HEAD: usize = 32;
/// Pieces whose attention is worked out together.
const ASKING: usize = 4;

/// A matrix with weights of 8 bits, a scale and a bias for each row.
pub(super) struct Matrix {
    /// Where its weights lie in the file, in the kernel's order.
    weights: Range<usize>,
    scales: Vec<f32>,
    biases: Vec<f32>,
    columns: usize,
}

/// Activations as whole numbers, each row with its scale.
#[derive(Default)]
struct Whole {
    numbers: Vec<i16>,
    scales: Vec<f32>,
}

impl Whole {
    #[inline(always)]
    fn of(&mut self, x: &[f32], columns: usize) {
        let limit = limit(columns) as f32;
        self.numbers.resize(x.len(), 0);
        self.scales.clear();
        for (row, to) in x.chunks_exact(columns).zip(self.numbers.chunks_exact_mut(columns)) {
            let top = largest(row).max(1e-20);
            let by = limit / top;
            for (to, x) in to.iter_mut().zip(row) {
                *to = rounded(x * by);
            }
            self.scales.push(top / limit);
        }
    }
}

impl Matrix {
    fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Every row of `x` against every row of the matrix; `rows()` numbers for each row of `x`.
    #[inline(always)]
    fn product<K: Kernel>(&self, kernel: K, file: &[i8], x: &Whole, out: &mut Vec<f32>) {
        let (rows, columns) = (self.rows(), self.columns);
        let all_weights = &file[self.weights.clone()];
        let tokens = x.scales.len();
        out.resize(tokens * rows, 0.0);
        let mut sums: Sums = [[[0; BLOCK]; WIDE]; TILE];
        let all = rows.div_ceil(BLOCK);
        for first in (0..all).step_by(WIDE) {
            let blocks = WIDE.min(all - first);
            let weights = &all_weights[first * BLOCK * columns..(first + blocks) * BLOCK * columns];
            for token in (0..tokens).step_by(TILE) {
                let some = TILE.min(tokens - token);
                kernel.tile(&x.numbers[token * columns..(token + some) * columns], weights, columns, some, blocks, &mut sums);
                for (i, sums) in sums.iter().enumerate().take(some) {
                    let scale = x.scales[token + i];
                    let out = &mut out[(token + i) * rows..(token + i + 1) * rows];
                    for (b, sums) in sums.iter().enumerate().take(blocks) {
                        let at = (first + b) * BLOCK;
                        let end = (at + BLOCK).min(rows);
                        let (scales, biases) = (&self.scales[at..end], &self.biases[at..end]);
                        for (((out, sum), by), bias) in out[at..end].iter_mut().zip(sums).zip(scales).zip(biases) {
                            *out = *sum as f32 * (by * scale) + bias;
                        }
                    }
                }
            }
        }
    }
}

struct Layer {
    /// Query, key and value, one behind the other.
    qkv: Matrix,
    out: Matrix,
    up: Matrix,
    down: Matrix,
    /// Weight and bias after attention, weight and bias at the end.
    norms: [Vec<f32>; 4],
}

/// All there is to know but the vocabulary. The weights stay in the file, whose bytes come along wherever they are needed.
pub(super) struct Layers {
    width: usize,
    words: Range<usize>,
    word_scales: Vec<f32>,
    places: Vec<f32>,
    types: Vec<f32>,
    norms: [Vec<f32>; 2],
    layers: Vec<Layer>,
    /// What each piece says for each technique and none, and how much it is heard for each.
    pieces: Matrix,
    /// What is asked of a text as a whole.
    heads: Matrix,
}

/// Where a text stands in a batch.
pub(super) struct Text {
    /// Its own pieces, and with the context's.
    pub(super) own: usize,
    pub(super) all: usize,
}

/// Texts that are read together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) pieces: Vec<u16>,
    pub(super) texts: Vec<Text>,
}

impl Batch {
    /// The rows of the texts' own pieces.
    fn own_rows(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(x.len());
        let mut rest = x;
        for text in &self.texts {
            let (rows, behind) = rest.split_at(text.all * width);
            out.extend_from_slice(&rows[..text.own * width]);
            rest = behind;
        }
        out
    }
}

/// Sizes of a file are believed up to here.
const MAX_WIDTH: usize = 4096;
const MAX_LAYERS: usize = 48;
/// Techniques and none; some 700 in use.
const MAX_TECHNIQUES: usize = 1 << 12;

/// Takes lists off the front of a long one.
fn take<'b, T>(from: &mut &'b [T], count: usize) -> Option<&'b [T]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

fn floats(from: &mut &[F32], count: usize) -> Option<Vec<f32>> {
    Some(take(from, count)?.iter().map(|f| f.get()).collect())
}

impl Layers {
    pub(super) fn open<D: AsRef<[u8]>>(file: &Index<D>) -> Option<Layers> {
        let sizes: &[U32] = file.section(*b"ESIZ");
        let [width, inner, layers, techniques, rest] = sizes else { return None };
        let [width, inner, count, techniques, rest] = [width, inner, layers, techniques, rest].map(|n| n.get() as usize);
        let sane = (1..=MAX_WIDTH).contains(&width)
            && (1..=4 * MAX_WIDTH).contains(&inner)
            && (1..=MAX_LAYERS).contains(&count)
            && (2..=MAX_TECHNIQUES).contains(&techniques)
            && rest == WHOLE;
        if !sane || !width.is_multiple_of(HEAD) || !inner.is_multiple_of(2) {
            return None;
        }
        let mut weights = file.range(*b"EWEI")?;
        let mut left: &[F32] = file.section(*b"EFLO");
        let mut matrix = |rows: usize, columns: usize, left: &mut &[F32]| {
            let end = weights.start + rows.next_multiple_of(BLOCK) * columns;
            let own = (end <= weights.end).then_some(weights.start..end)?;
            weights.start = end;
            Some(Matrix { weights: own, scales: floats(left, rows)?, biases: floats(left, rows)?, columns })
        };
        let places = floats(&mut left, PLACES * width)?;
        let types = floats(&mut left, 2 * width)?;
        let norms = [floats(&mut left, width)?, floats(&mut left, width)?];
        let mut layers = Vec::new();
        for _ in 0..count {
            layers.push(Layer {
                qkv: matrix(3 * width, width, &mut left)?,
                out: matrix(width, width, &mut left)?,
                up: matrix(inner, width, &mut left)?,
                down: matrix(width, inner, &mut left)?,
                norms: [floats(&mut left, width)?, floats(&mut left, width)?, floats(&mut left, width)?, floats(&mut left, width)?],
            });
        }
        let pieces = matrix(2 * techniques, width, &mut left)?;
        let heads = matrix(rest, width, &mut left)?;
        let word_scales: &[F32] = file.section(*b"EWRS");
        let words = file.range(*b"EWRD")?;
        let whole = left.is_empty() && weights.is_empty() && words.len() == word_scales.len() * width;
        let word_scales = word_scales.iter().map(|f| f.get()).collect();
        whole.then_some(Layers { width, words, word_scales, places, types, norms, layers, pieces, heads })
    }

    /// Pieces in the vocabulary.
    pub(super) fn words(&self) -> usize {
        self.word_scales.len()
    }

    /// Numbers of an answer: of techniques and none, and of what is asked of the text as a whole.
    pub(super) fn answers(&self) -> [usize; 2] {
        [self.pieces.rows() / 2, self.heads.rows()]
    }

    #[inline(always)]
    fn embed(&self, file: &[i8], batch: &Batch) -> Vec<f32> {
        let width = self.width;
        let words = &file[self.words.clone()];
        let mut x = vec![0.0; batch.pieces.len() * width];
        let mut at = 0;
        for text in &batch.texts {
            for i in 0..text.all {
                let piece = usize::from(batch.pieces[at + i]);
                let scale = self.word_scales[piece];
                let kind = usize::from(i >= text.own) * width;
                let row = &mut x[(at + i) * width..(at + i + 1) * width];
                let word = &words[piece * width..(piece + 1) * width];
                let (place, kind) = (&self.places[i * width..(i + 1) * width], &self.types[kind..kind + width]);
                for (((x, w), p), k) in row.iter_mut().zip(word).zip(place).zip(kind) {
                    *x = f32::from(*w) * scale + p + k;
                }
                normalise(row, &self.norms[0], &self.norms[1]);
            }
            at += text.all;
        }
        x
    }

    /// Attention within each text; `qkv` has 3 `width` numbers for each piece. `out` has `width` for each piece that is
    /// asked for, of the context's or only of the texts' own, without gaps.
    #[inline(always)]
    fn attend<K: Kernel>(&self, kernel: K, batch: &Batch, qkv: &[f32], own_only: bool, out: &mut Vec<f32>) {
        let width = self.width;
        let asked = |text: &Text| if own_only { text.own } else { text.all };
        out.resize(batch.texts.iter().map(asked).sum::<usize>() * width, 0.0);
        let by = 1.0 / (HEAD as f32).sqrt();
        let mut keys = [[[0.0_f32; LANES]; PLACES / LANES]; HEAD];
        let (mut first, mut first_out) = (0, 0);
        for text in &batch.texts {
            let row = |i: usize, part: usize, head: usize| -> &[f32; HEAD] {
                let at = (first + i) * 3 * width + part * width + head * HEAD;
                qkv[at..].first_chunk().expect("three times the width of each piece")
            };
            let chunks = text.all.div_ceil(LANES);
            for head in 0..width / HEAD {
                for i in 0..text.all {
                    for (keys, k) in keys.iter_mut().zip(row(i, 1, head)) {
                        keys[i / LANES][i % LANES] = *k;
                    }
                }
                // Some pieces at a time, so that sums don't wait for each other.
                for start in (0..asked(text)).step_by(ASKING) {
                    let asking: [usize; ASKING] = std::array::from_fn(|a| (start + a).min(asked(text) - 1));
                    let queries = asking.map(|i| row(i, 0, head).map(|q| q * by));
                    let mut scores = [[0.0_f32; PLACES]; ASKING];
                    for chunk in 0..chunks {
                        let mut sums = [kernel.splat(0.0); ASKING];
                        for (d, keys) in keys.iter().enumerate() {
                            let keys = kernel.load(&keys[chunk]);
                            for (sum, query) in sums.iter_mut().zip(&queries) {
                                *sum = kernel.add_product(*sum, kernel.splat(query[d]), keys);
                            }
                        }
                        for (scores, sum) in scores.iter_mut().zip(sums) {
                            kernel.store(sum, &mut scores.as_chunks_mut().0[chunk]);
                        }
                    }
                    for scores in &mut scores {
                        softmax_padded(&mut scores[..chunks * LANES], text.all);
                    }
                    let mut sums = [[kernel.splat(0.0); HEAD / LANES]; ASKING];
                    for j in 0..text.all {
                        for (l, values) in row(j, 2, head).as_chunks().0.iter().enumerate() {
                            let values = kernel.load(values);
                            for (sums, scores) in sums.iter_mut().zip(&scores) {
                                sums[l] = kernel.add_product(sums[l], kernel.splat(scores[j]), values);
                            }
                        }
                    }
                    for (i, sums) in asking.into_iter().zip(sums) {
                        let at = (first_out + i) * width + head * HEAD;
                        for (to, sum) in out[at..at + HEAD].as_chunks_mut().0.iter_mut().zip(sums) {
                            kernel.store(sum, to);
                        }
                    }
                }
            }
            first += text.all;
            first_out += asked(text);
        }
    }
}

/// x + y, normalised.
#[inline(always)]
fn add(x: &mut [f32], y: &[f32], weight: &[f32], bias: &[f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
        normalise(x, weight, bias);
    }
}

/// Reads a batch: the answers' numbers, text by text.
pub(super) struct Read<'a> {
    pub(super) layers: &'a Layers,
    /// The model file's bytes.
    pub(super) file: &'a [i8],
    pub(super) batch: &'a Batch,
}

impl Work for Read<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with<K: Kernel>(self, kernel: K) -> Vec<f32> {
        let Read { layers: all, file, batch } = self;
        let width = all.width;
        let mut x = all.embed(file, batch);
        let (mut whole, mut wide, mut narrow) = (Whole::default(), Vec::new(), Vec::new());
        for (i, layer) in all.layers.iter().enumerate() {
            whole.of(&x, width);
            layer.qkv.product(kernel, file, &whole, &mut wide);
            // Behind the last attention nobody asks what became of the context.
            let own_only = i + 1 == all.layers.len();
            all.attend(kernel, batch, &wide, own_only, &mut narrow);
            if own_only {
                x = batch.own_rows(&x, width);
            }
            whole.of(&narrow, width);
            layer.out.product(kernel, file, &whole, &mut narrow);
            add(&mut x, &narrow, &layer.norms[0], &layer.norms[1]);
            whole.of(&x, width);
            layer.up.product(kernel, file, &whole, &mut wide);
            for x in &mut wide {
                *x = gelu(*x);
            }
            whole.of(&wide, layer.down.columns);
            layer.down.product(kernel, file, &whole, &mut narrow);
            add(&mut x, &narrow, &layer.norms[2], &layer.norms[3]);
        }
        whole.of(&x, width);
        all.pieces.product(kernel, file, &whole, &mut wide);
        let [techniques, rest] = all.answers();
        let mut answers = vec![0.0; batch.texts.len() * (techniques + rest)];
        let mut means = vec![0.0; batch.texts.len() * width];
        let (mut said, mut rows) = (&wide[..], &x[..]);
        for ((text, answer), mean) in batch.texts.iter().zip(answers.chunks_exact_mut(techniques + rest)).zip(means.chunks_exact_mut(width))
        {
            let (of_text, behind) = said.split_at(text.own * 2 * techniques);
            said = behind;
            attended(of_text, &mut answer[..techniques]);
            // The mean over the text's own pieces.
            let (of_text, behind) = rows.split_at(text.own * width);
            rows = behind;
            for row in of_text.chunks_exact(width) {
                for (m, x) in mean.iter_mut().zip(row) {
                    *m += x;
                }
            }
            mean.iter_mut().for_each(|m| *m /= text.own as f32);
        }
        whole.of(&means, width);
        all.heads.product(kernel, file, &whole, &mut narrow);
        for (answer, heads) in answers.chunks_exact_mut(techniques + rest).zip(narrow.chunks_exact(rest)) {
            answer[techniques..].copy_from_slice(heads);
        }
        answers
    }
}

/// The attention of each technique to the pieces of a text (Mullenbach et al. 2018). `said` has for each piece what it says for
/// each technique, and behind it how much it is heard for each; into `out` goes the mean of the former, weighted by the softmax of
/// the latter over the pieces.
#[inline(always)]
fn attended(said: &[f32], out: &mut [f32]) {
    let count = out.len();
    let mut tops = vec![f32::NEG_INFINITY; count];
    for piece in said.chunks_exact(2 * count) {
        for (top, heard) in tops.iter_mut().zip(&piece[count..]) {
            *top = if *heard > *top { *heard } else { *top };
        }
    }
    let mut totals = vec![0.0_f32; count];
    out.fill(0.0);
    for piece in said.chunks_exact(2 * count) {
        let (says, heard) = piece.split_at(count);
        let sums = totals.iter_mut().zip(out.iter_mut());
        for (((says, heard), top), (total, out)) in says.iter().zip(heard).zip(&tops).zip(sums) {
            let weight = exp(*heard - *top);
            *total += weight;
            *out += weight * says;
        }
    }
    for (out, total) in out.iter_mut().zip(&totals) {
        *out /= total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn techniques_hear_the_pieces_that_speak_of_them() {
        // Three pieces, two techniques: what is said for each, then how much is heard.
        let said = |heard: [[f32; 2]; 3]| {
            let says = [[1.0, 4.0], [2.0, 5.0], [6.0, 0.0]];
            says.into_iter().zip(heard).flat_map(|(says, heard)| [says[0], says[1], heard[0], heard[1]]).collect::<Vec<f32>>()
        };
        let mut out = [9.0; 2];
        attended(&said([[0.5, -2.0]; 3]), &mut out);
        assert!((out[0] - 3.0).abs() < 1e-6 && (out[1] - 3.0).abs() < 1e-6, "all alike: the mean, {out:?}");
        attended(&said([[-200.0, 0.0], [0.0, 50.0], [0.0, 0.0]]), &mut out);
        assert!((out[0] - 4.0).abs() < 1e-6 && (out[1] - 5.0).abs() < 1e-6, "{out:?}");
    }
}
