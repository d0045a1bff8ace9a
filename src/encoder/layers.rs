//! The transformer's layers, over many texts at a time. Texts stand one behind the other without anything between.
//!
//! The first layers read each text by itself ([`Alone`]); in those behind them a text also hears what stands before it
//! ([`Together`]), as the first layers left that. So a segment that is read, and is context of the next, costs the first
//! layers once.

use std::ops::Range;

use zerocopy::byteorder::little_endian::{F32, U32};

use super::WHOLE;
use super::arithmetic::{LANES, exp, gelu, largest, normalise, softmax_padded, whole as rounded};
use super::kernel::{BLOCK, Kernel, Sums, TILE, WIDE, Work, limit};
use crate::index::Index;

/// Pieces of a text that have a place: more are not read.
pub(super) const PLACES: usize = super::OWN;
/// Pieces that a piece can hear.
const HEARD: usize = PLACES + super::CONTEXT[0] + super::CONTEXT[1];
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
        self.product_from(0, kernel, file, x, out);
    }

    /// The same without the matrix's first rows; `skipped` is a multiple of [`BLOCK`].
    #[inline(always)]
    fn product_from<K: Kernel>(&self, skipped: usize, kernel: K, file: &[i8], x: &Whole, out: &mut Vec<f32>) {
        let (rows, columns) = (self.rows() - skipped, self.columns);
        let all_weights = &file[self.weights.start + skipped * columns..self.weights.end];
        let (all_scales, all_biases) = (&self.scales[skipped..], &self.biases[skipped..]);
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
                        let (scales, biases) = (&all_scales[at..end], &all_biases[at..end]);
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
    norms: [Vec<f32>; 2],
    layers: Vec<Layer>,
    /// Layers that read a text by itself.
    alone: usize,
    /// What is added to the pieces of a heading, and to those of the segment before.
    marks: Vec<f32>,
    /// What each piece says for each technique and none, and how much it is heard for each.
    pieces: Matrix,
    /// What is asked of a text as a whole.
    heads: Matrix,
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
        let [width, inner, layers, alone, techniques, rest] = sizes else { return None };
        let [width, inner, count, alone, techniques, rest] = [width, inner, layers, alone, techniques, rest].map(|n| n.get() as usize);
        let sane = (1..=MAX_WIDTH).contains(&width)
            && (1..=4 * MAX_WIDTH).contains(&inner)
            && (1..=MAX_LAYERS).contains(&count)
            && alone < count
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
        let marks = floats(&mut left, 2 * width)?;
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
        whole.then_some(Layers { width, words, word_scales, places, norms, layers, alone, marks, pieces, heads })
    }

    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        self.width
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
    fn embed(&self, file: &[i8], texts: &[Vec<u16>]) -> Vec<f32> {
        let width = self.width;
        let words = &file[self.words.clone()];
        let mut x = vec![0.0; texts.iter().map(Vec::len).sum::<usize>() * width];
        debug_assert!(texts.iter().all(|text| text.len() <= PLACES));
        let pieces = texts.iter().flat_map(|text| text.iter().zip(self.places.chunks_exact(width)));
        for (row, (piece, place)) in x.chunks_exact_mut(width).zip(pieces) {
            let piece = usize::from(*piece);
            let scale = self.word_scales[piece];
            let word = &words[piece * width..(piece + 1) * width];
            for ((x, w), p) in row.iter_mut().zip(word).zip(place) {
                *x = f32::from(*w) * scale + p;
            }
            normalise(row, &self.norms[0], &self.norms[1]);
        }
        x
    }

    /// Rows of context as they are heard: marked, and as whole numbers.
    #[inline(always)]
    fn marked(&self, texts: &[Text<'_>]) -> Whole {
        let width = self.width;
        let mut rows: Vec<f32> = Vec::new();
        for text in texts {
            for (context, mark) in text.context.iter().zip(self.marks.chunks_exact(width)) {
                for row in context.chunks_exact(width) {
                    rows.extend(row.iter().zip(mark).map(|(x, m)| x + m));
                }
            }
        }
        let mut whole = Whole::default();
        whole.of(&rows, width);
        whole
    }

    /// One layer: `x` has a row for each piece of the texts. `sizes` are how many pieces each text has of its own and in its
    /// context, whose rows are in `room`.
    #[inline(always)]
    fn layer<K: Kernel>(&self, layer: &Layer, kernel: K, file: &[i8], sizes: &[[usize; 2]], x: &mut [f32], room: &mut Room) {
        let Room { context, heard, whole, wide, narrow } = room;
        whole.of(x, self.width);
        layer.qkv.product(kernel, file, whole, wide);
        // Nobody asks what becomes of the context: it needs no queries.
        layer.qkv.product_from(self.width, kernel, file, context, heard);
        self.attend(kernel, sizes, wide, heard, narrow);
        whole.of(narrow, self.width);
        layer.out.product(kernel, file, whole, narrow);
        add(x, narrow, &layer.norms[0], &layer.norms[1]);
        whole.of(x, self.width);
        layer.up.product(kernel, file, whole, wide);
        for x in wide.iter_mut() {
            *x = gelu(*x);
        }
        whole.of(wide, layer.down.columns);
        layer.down.product(kernel, file, whole, narrow);
        add(x, narrow, &layer.norms[2], &layer.norms[3]);
    }

    /// Attention of each text's pieces to its own and to its context's; `qkv` has 3 `width` numbers for each piece,
    /// `context` 2 `width`, `out` gets `width`.
    #[inline(always)]
    fn attend<K: Kernel>(&self, kernel: K, sizes: &[[usize; 2]], qkv: &[f32], context: &[f32], out: &mut Vec<f32>) {
        let width = self.width;
        out.resize(qkv.len() / 3, 0.0);
        let by = 1.0 / (HEAD as f32).sqrt();
        let mut keys = [[[0.0_f32; LANES]; HEARD.div_ceil(LANES)]; HEAD];
        let (mut first, mut first_context) = (0, 0);
        for [own, others] in sizes {
            let (own, all) = (*own, own + others);
            let query = |i: usize, head: usize| -> &[f32; HEAD] {
                qkv[(first + i) * 3 * width + head * HEAD..].first_chunk().expect("three times the width of each piece")
            };
            // Part 1 is the key, part 2 the value.
            let heard = |i: usize, part: usize, head: usize| -> &[f32; HEAD] {
                let rows = if i < own {
                    &qkv[((first + i) * 3 + part) * width + head * HEAD..]
                } else {
                    &context[((first_context + i - own) * 2 + part - 1) * width + head * HEAD..]
                };
                rows.first_chunk().expect("two or three times the width of each piece")
            };
            let chunks = all.div_ceil(LANES);
            for head in 0..width / HEAD {
                for i in 0..all {
                    for (keys, k) in keys.iter_mut().zip(heard(i, 1, head)) {
                        keys[i / LANES][i % LANES] = *k;
                    }
                }
                // Some pieces at a time, so that sums don't wait for each other.
                for start in (0..own).step_by(ASKING) {
                    let asking: [usize; ASKING] = std::array::from_fn(|a| (start + a).min(own - 1));
                    let queries = asking.map(|i| query(i, head).map(|q| q * by));
                    let mut scores = [[0.0_f32; HEARD.next_multiple_of(LANES)]; ASKING];
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
                        softmax_padded(&mut scores[..chunks * LANES], all);
                    }
                    let mut sums = [[kernel.splat(0.0); HEAD / LANES]; ASKING];
                    for j in 0..all {
                        for (l, values) in heard(j, 2, head).as_chunks().0.iter().enumerate() {
                            let values = kernel.load(values);
                            for (sums, scores) in sums.iter_mut().zip(&scores) {
                                sums[l] = kernel.add_product(sums[l], kernel.splat(scores[j]), values);
                            }
                        }
                    }
                    for (i, sums) in asking.into_iter().zip(sums) {
                        let at = (first + i) * width + head * HEAD;
                        for (to, sum) in out[at..at + HEAD].as_chunks_mut().0.iter_mut().zip(sums) {
                            kernel.store(sum, to);
                        }
                    }
                }
            }
            first += own;
            first_context += others;
        }
    }
}

/// The texts' context, and room for what a layer works out.
#[derive(Default)]
struct Room {
    context: Whole,
    /// Its keys and values.
    heard: Vec<f32>,
    whole: Whole,
    wide: Vec<f32>,
    narrow: Vec<f32>,
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

/// Reads texts by themselves, through the first layers: a row for each piece, text by text.
pub(super) struct Alone<'a> {
    pub(super) layers: &'a Layers,
    /// The model file's bytes.
    pub(super) file: &'a [i8],
    /// The pieces of each.
    pub(super) texts: &'a [Vec<u16>],
}

impl Work for Alone<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with<K: Kernel>(self, kernel: K) -> Vec<f32> {
        let Alone { layers: all, file, texts } = self;
        let sizes: Vec<[usize; 2]> = texts.iter().map(|text| [text.len(), 0]).collect();
        let mut x = all.embed(file, texts);
        let mut room = Room::default();
        for layer in &all.layers[..all.alone] {
            all.layer(layer, kernel, file, &sizes, &mut x, &mut room);
        }
        x
    }
}

/// A text as [`Alone`] left it, and what of its context is heard: of the heading, and of the segment before.
pub(super) struct Text<'a> {
    pub(super) own: &'a [f32],
    pub(super) context: [&'a [f32]; 2],
}

/// Reads texts to the end: the answers' numbers, text by text.
pub(super) struct Together<'a> {
    pub(super) layers: &'a Layers,
    /// The model file's bytes.
    pub(super) file: &'a [i8],
    pub(super) texts: &'a [Text<'a>],
}

impl Work for Together<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with<K: Kernel>(self, kernel: K) -> Vec<f32> {
        let Together { layers: all, file, texts } = self;
        let width = all.width;
        let pieces = |rows: &[f32]| rows.len() / width;
        let sizes: Vec<[usize; 2]> = texts.iter().map(|t| [pieces(t.own), t.context.iter().map(|c| pieces(c)).sum()]).collect();
        let mut x: Vec<f32> = texts.iter().flat_map(|text| text.own).copied().collect();
        let mut room = Room { context: all.marked(texts), ..Room::default() };
        for layer in &all.layers[all.alone..] {
            all.layer(layer, kernel, file, &sizes, &mut x, &mut room);
        }
        let Room { mut whole, mut wide, mut narrow, .. } = room;
        whole.of(&x, width);
        all.pieces.product(kernel, file, &whole, &mut wide);
        let [techniques, rest] = all.answers();
        let mut answers = vec![0.0; texts.len() * (techniques + rest)];
        let mut means = vec![0.0; texts.len() * width];
        let (mut said, mut rows) = (&wide[..], &x[..]);
        for (([own, _], answer), mean) in sizes.iter().zip(answers.chunks_exact_mut(techniques + rest)).zip(means.chunks_exact_mut(width)) {
            let (of_text, behind) = said.split_at(own * 2 * techniques);
            said = behind;
            attended(of_text, &mut answer[..techniques]);
            // The mean over the text's own pieces.
            let (of_text, behind) = rows.split_at(own * width);
            rows = behind;
            for row in of_text.chunks_exact(width) {
                for (m, x) in mean.iter_mut().zip(row) {
                    *m += x;
                }
            }
            mean.iter_mut().for_each(|m| *m /= *own as f32);
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
