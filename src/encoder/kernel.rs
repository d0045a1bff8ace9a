//! Products of matrices: weights of 8 bits with activations of 16, in sums of 32 that can't overflow.
//!
//! Whole numbers add up to the same in any order, so every kernel gives the same bits, whatever the processor, the
//! batch and the number of threads. What follows in floating point is done element by element, or in lanes whose
//! number doesn't depend on the processor; products are never fused into sums.
//!
//! Weights lie in blocks of [`BLOCK`] rows: for every pair of columns the block's rows, two numbers each. One such
//! pair of every row is one load, and one pair of an activation stands against all of them.

#![allow(unsafe_code)]

use super::arithmetic::LANES;

/// Rows of a block.
pub(super) const BLOCK: usize = 16;

/// The largest activation that sums of `columns` products with weights of 8 bits stay below 2^31 with.
pub(super) fn limit(columns: usize) -> i32 {
    (i32::MAX / 127 / columns.max(1) as i32).min(i32::from(i16::MAX))
}

/// Rows of weights, as they come, into blocks; rows that fill the last block are zero.
pub(super) fn pack(weights: &[i8], columns: usize) -> Vec<i8> {
    let rows = weights.len() / columns;
    let mut out = Vec::with_capacity(rows.next_multiple_of(BLOCK) * columns);
    for block in 0..rows.div_ceil(BLOCK) {
        for pair in 0..columns / 2 {
            for row in block * BLOCK..(block + 1) * BLOCK {
                for column in [2 * pair, 2 * pair + 1] {
                    out.push(if row < rows { weights[row * columns + column] } else { 0 });
                }
            }
        }
    }
    out
}

/// Sums of a tile: up to [`TILE`] activations against up to [`WIDE`] blocks.
pub(super) const TILE: usize = 8;
pub(super) const WIDE: usize = 3;
pub(super) type Sums = [[[i32; BLOCK]; WIDE]; TILE];

/// Something that multiplies, as the processor can. What is left to the compiler elsewhere is written out here where it
/// chooses badly.
pub(super) trait Kernel: Copy {
    /// `tokens` rows of `x`, `columns` numbers each, against `blocks` blocks of weights.
    ///
    /// `x` holds `tokens * columns` numbers and `weights` `blocks * BLOCK * columns`; `columns` is even; `tokens` is
    /// at most [`TILE`], `blocks` at most [`WIDE`].
    fn tile(self, x: &[i16], weights: &[i8], columns: usize, tokens: usize, blocks: usize, sums: &mut Sums);

    /// [`LANES`] numbers, in registers.
    type Lanes: Copy;
    /// One number in every lane.
    fn splat(self, x: f32) -> Self::Lanes;
    fn load(self, from: &[f32; LANES]) -> Self::Lanes;
    fn store(self, lanes: Self::Lanes, to: &mut [f32; LANES]);
    /// sum + x · y in every lane, the product rounded before it is added.
    fn add_product(self, sum: Self::Lanes, x: Self::Lanes, y: Self::Lanes) -> Self::Lanes;
}

/// Any processor.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Kernel for Plain {
    #[inline(always)]
    fn tile(self, x: &[i16], weights: &[i8], columns: usize, tokens: usize, blocks: usize, sums: &mut Sums) {
        for (x, sums) in x.chunks_exact(columns).zip(sums.iter_mut()).take(tokens) {
            for (weights, sums) in weights.chunks_exact(BLOCK * columns).zip(sums.iter_mut()).take(blocks) {
                let mut own = [0_i32; BLOCK];
                for (pair, weights) in x.chunks_exact(2).zip(weights.chunks_exact(2 * BLOCK)) {
                    let (a, b) = (i32::from(pair[0]), i32::from(pair[1]));
                    for (sum, w) in own.iter_mut().zip(weights.chunks_exact(2)) {
                        *sum += a * i32::from(w[0]) + b * i32::from(w[1]);
                    }
                }
                *sums = own;
            }
        }
    }

    type Lanes = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> [f32; LANES] {
        *from
    }

    #[inline(always)]
    fn store(self, lanes: [f32; LANES], to: &mut [f32; LANES]) {
        *to = lanes;
    }

    #[inline(always)]
    fn add_product(self, sum: [f32; LANES], x: [f32; LANES], y: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| sum[i] + x[i] * y[i])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Kernel, LANES, Sums};

    /// Checks what the tiles rely on; the pointers below stay inside.
    #[inline(always)]
    fn check(x: &[i16], weights: &[i8], columns: usize, tokens: usize, blocks: usize) {
        assert!(columns.is_multiple_of(2) && x.len() >= tokens * columns && weights.len() >= blocks * BLOCK * columns);
    }

    /// Two neighbouring activations as one number.
    ///
    /// # Safety
    /// `at` and the number behind it are inside the activations.
    #[inline(always)]
    unsafe fn pair(at: *const i16) -> i32 {
        // SAFETY: as the caller says; the read needs no alignment.
        unsafe { at.cast::<i32>().read_unaligned() }
    }

    /// Processors with AVX2 (since 2013).
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2;

    impl Avx2 {
        #[inline(always)]
        fn some<const T: usize>(x: &[i16], weights: &[i8], columns: usize, block: usize, sums: &mut Sums, first: usize) {
            // SAFETY: `tile` has checked the lengths, and `Avx2` is only made where the processor has it.
            unsafe {
                let mut own = [[_mm256_setzero_si256(); 2]; T];
                let w = weights.as_ptr().add(block * BLOCK * columns);
                let x = x.as_ptr().add(first * columns);
                for p in 0..columns / 2 {
                    let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(p * 32).cast()));
                    let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(p * 32 + 16).cast()));
                    for (t, own) in own.iter_mut().enumerate() {
                        let a = _mm256_set1_epi32(pair(x.add(t * columns + 2 * p)));
                        own[0] = _mm256_add_epi32(own[0], _mm256_madd_epi16(low, a));
                        own[1] = _mm256_add_epi32(own[1], _mm256_madd_epi16(high, a));
                    }
                }
                for (t, own) in own.iter().enumerate() {
                    let to = sums[first + t][block].as_mut_ptr();
                    _mm256_storeu_si256(to.cast(), own[0]);
                    _mm256_storeu_si256(to.add(8).cast(), own[1]);
                }
            }
        }
    }

    impl Kernel for Avx2 {
        #[inline(always)]
        fn tile(self, x: &[i16], weights: &[i8], columns: usize, tokens: usize, blocks: usize, sums: &mut Sums) {
            check(x, weights, columns, tokens, blocks);
            for block in 0..blocks {
                let mut first = 0;
                while first + 4 <= tokens {
                    Avx2::some::<4>(x, weights, columns, block, sums, first);
                    first += 4;
                }
                for t in first..tokens {
                    Avx2::some::<1>(x, weights, columns, block, sums, t);
                }
            }
        }

        type Lanes = [__m256; 2];

        #[inline(always)]
        fn splat(self, x: f32) -> [__m256; 2] {
            // SAFETY: `Avx2` is only made where the processor has it.
            unsafe { [_mm256_set1_ps(x); 2] }
        }

        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> [__m256; 2] {
            // SAFETY: the same; both halves are inside the array.
            unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
        }

        #[inline(always)]
        fn store(self, lanes: [__m256; 2], to: &mut [f32; LANES]) {
            // SAFETY: the same.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), lanes[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), lanes[1]);
            }
        }

        #[inline(always)]
        fn add_product(self, sum: [__m256; 2], x: [__m256; 2], y: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: `Avx2` is only made where the processor has it.
            unsafe { [_mm256_add_ps(sum[0], _mm256_mul_ps(x[0], y[0])), _mm256_add_ps(sum[1], _mm256_mul_ps(x[1], y[1]))] }
        }
    }

    /// Processors with AVX-512 and its instructions for neural networks (servers since 2019, AMD's since 2022).
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512;

    /// sums + w · a, by pairs. Written as it is: the compiler would make two instructions of the intrinsic.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn multiply_add(mut sums: __m512i, w: __m512i, a: __m512i) -> __m512i {
        // SAFETY: it reads and writes registers only.
        unsafe {
            std::arch::asm!(
                "vpdpwssd {sums}, {w}, {a}",
                sums = inout(zmm_reg) sums, w = in(zmm_reg) w, a = in(zmm_reg) a,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }

    impl Avx512 {
        #[inline(always)]
        fn some<const T: usize, const B: usize>(x: &[i16], weights: &[i8], columns: usize, sums: &mut Sums, first: usize) {
            // SAFETY: `tile` has checked the lengths, and `Avx512` is only made where the processor has it.
            unsafe {
                let mut own = [[_mm512_setzero_si512(); B]; T];
                let x = x.as_ptr().add(first * columns);
                for p in 0..columns / 2 {
                    let mut w = [_mm512_setzero_si512(); B];
                    for (b, w) in w.iter_mut().enumerate() {
                        *w = _mm512_cvtepi8_epi16(_mm256_loadu_si256(weights.as_ptr().add(b * BLOCK * columns + p * 32).cast()));
                    }
                    for (t, own) in own.iter_mut().enumerate() {
                        let a = _mm512_set1_epi32(pair(x.add(t * columns + 2 * p)));
                        for (own, w) in own.iter_mut().zip(&w) {
                            *own = multiply_add(*own, *w, a);
                        }
                    }
                }
                for (t, own) in own.iter().enumerate() {
                    for (b, own) in own.iter().enumerate() {
                        _mm512_storeu_si512(sums[first + t][b].as_mut_ptr().cast(), *own);
                    }
                }
            }
        }

        #[inline(always)]
        fn wide<const B: usize>(x: &[i16], weights: &[i8], columns: usize, tokens: usize, sums: &mut Sums) {
            let mut first = 0;
            while first + 8 <= tokens {
                Avx512::some::<8, B>(x, weights, columns, sums, first);
                first += 8;
            }
            while first + 4 <= tokens {
                Avx512::some::<4, B>(x, weights, columns, sums, first);
                first += 4;
            }
            for t in first..tokens {
                Avx512::some::<1, B>(x, weights, columns, sums, t);
            }
        }
    }

    impl Kernel for Avx512 {
        #[inline(always)]
        fn tile(self, x: &[i16], weights: &[i8], columns: usize, tokens: usize, blocks: usize, sums: &mut Sums) {
            check(x, weights, columns, tokens, blocks);
            match blocks {
                3 => Avx512::wide::<3>(x, weights, columns, tokens, sums),
                2 => Avx512::wide::<2>(x, weights, columns, tokens, sums),
                _ => Avx512::wide::<1>(x, weights, columns, tokens, sums),
            }
        }

        type Lanes = __m512;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: `Avx512` is only made where the processor has it.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> __m512 {
            // SAFETY: the same; the array is as long as what is read.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, lanes: __m512, to: &mut [f32; LANES]) {
            // SAFETY: the same.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), lanes) }
        }

        #[inline(always)]
        fn add_product(self, sum: __m512, x: __m512, y: __m512) -> __m512 {
            // SAFETY: `Avx512` is only made where the processor has it.
            unsafe { _mm512_add_ps(sum, _mm512_mul_ps(x, y)) }
        }
    }
}

/// Work that is done with whichever kernel is best.
pub(super) trait Work {
    /// What it gives.
    type Output;
    /// Does it. Is to be `#[inline(always)]`, so that all of it is compiled for the kernel's processor.
    fn with<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// Which kernels there are, the plain one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processor {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Processor {
    /// Those that this machine can run, the best last.
    pub(super) fn all() -> Vec<Processor> {
        #[allow(unused_mut)]
        let mut all = vec![Processor::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Processor::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Processor::Avx512);
            }
        }
        all
    }

    /// Does work with this kernel.
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn avx2<W: Work>(work: W) -> W::Output {
                work.with(x86::Avx2)
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
            fn avx512<W: Work>(work: W) -> W::Output {
                work.with(x86::Avx512)
            }
            match self {
                // SAFETY: `all` lists them only where the processor has these instructions.
                Processor::Avx2 => return unsafe { avx2(work) },
                // SAFETY: the same.
                Processor::Avx512 => return unsafe { avx512(work) },
                Processor::Plain => {}
            }
        }
        work.with(Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneTile<'a> {
        x: &'a [i16],
        weights: &'a [i8],
        columns: usize,
        tokens: usize,
        blocks: usize,
    }

    impl Work for OneTile<'_> {
        type Output = Sums;

        #[inline(always)]
        fn with<K: Kernel>(self, kernel: K) -> Sums {
            let mut sums = [[[0; BLOCK]; WIDE]; TILE];
            kernel.tile(self.x, self.weights, self.columns, self.tokens, self.blocks, &mut sums);
            sums
        }
    }

    #[test]
    fn every_kernel_gives_the_sums_of_the_definition() {
        let mut random = crate::model::Random(3);
        for (columns, blocks) in [(2, 1), (384, 3), (1536, 2)] {
            let top = limit(columns);
            let rows = blocks * BLOCK - 5;
            // The largest there are, so that a sum that overflows shows; one row is all ends.
            let weights: Vec<i8> = (0..rows * columns).map(|i| if i < columns { -127 } else { (random.next() % 255) as i8 }).collect();
            let x: Vec<i16> =
                (0..TILE * columns).map(|i| if i < columns { top as i16 } else { (random.next() as i32 % top) as i16 }).collect();
            let weights: Vec<i8> = weights.into_iter().map(|w| w.max(-127)).collect();
            let packed = pack(&weights, columns);
            for tokens in 1..=TILE {
                for processor in Processor::all() {
                    let sums = processor.run(OneTile { x: &x[..tokens * columns], weights: &packed, columns, tokens, blocks });
                    for token in 0..tokens {
                        for row in 0..rows {
                            let of = |i: usize| i64::from(x[token * columns + i]) * i64::from(weights[row * columns + i]);
                            let exact: i64 = (0..columns).map(of).sum();
                            let sum = sums[token][row / BLOCK][row % BLOCK];
                            assert_eq!(i64::from(sum), exact, "{processor:?}, {columns} columns, token {token}, row {row}");
                        }
                    }
                }
            }
        }
    }
}
