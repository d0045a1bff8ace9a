//! The encoder: a small transformer (BERT; Devlin et al. 2018) that reads a segment and what stands before it, and says
//! which techniques it describes, whether it describes behaviour at all, and in what status.
//!
//! Its weights were trained by tools/encoder and lie in a model file with the second stage that joins it to the linear
//! models. [`input`] makes what it reads, [`pieces`] cuts that into pieces of words, [`layers`] is the transformer,
//! [`kernel`] multiplies, [`weights`] reads what PyTorch wrote.

mod arithmetic;
pub(crate) mod input;
mod kernel;
mod layers;
mod pieces;
mod weights;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes;
use zerocopy::byteorder::little_endian::U32;

use crate::index::format::Writer;
use crate::index::{self, Index};
use crate::kb::id::AttackId;
use crate::status::Status;
use kernel::Processor;
use layers::Layers;
use pieces::Pieces;
pub use weights::Error as WeightsError;

/// No model file is larger.
pub const MAX_BYTES: u64 = 256 << 20;

/// What a model file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Raised with every change of what a file holds; [`build`] sets it.
    #[serde(default)]
    pub format: u32,
    /// The release of ATT&CK that its techniques are numbered as.
    pub attack_version: String,
    /// When it was made, YYYY-MM-DD; may be empty.
    pub date: String,
}

const FORMAT: u32 = 5;

/// Why a model file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no file of this kind.
    #[error("not a ttpmap model file; `ttpmap update --models` fetches one")]
    Foreign,
    /// It is cut off, or its bytes are not those that were written.
    #[error("this model file is damaged ({0}); `ttpmap update --models` fetches it again")]
    Damaged(String),
    /// It is a knowledge base.
    #[error("this is a knowledge base, not a model (--kb takes it)")]
    KnowledgeBase,
    /// It was made by another version of ttpmap.
    #[error("this model is of format {found}, and this ttpmap reads format {FORMAT}: run `ttpmap update --models`")]
    Format {
        /// Its format.
        found: u32,
    },
    /// Its parts don't fit each other.
    #[error("this model is damaged: its parts don't fit each other")]
    Parts,
}

impl From<index::Error> for Error {
    fn from(error: index::Error) -> Error {
        match error {
            index::Error::Foreign => Error::Foreign,
            index::Error::Version { found, .. } => Error::Format { found },
            index::Error::Truncated { found, expected } => Error::Damaged(format!("cut short: {found} of {expected} bytes")),
            index::Error::Damaged(what) => Error::Damaged(what),
            other @ index::Error::Read { .. } => Error::Damaged(other.to_string()),
        }
    }
}

/// A model file (`.ttpmodel`): the encoder, and the second stage that joins it to a knowledge base's linear models. A
/// container as the knowledge base's: magic, version, sections, checksum.
pub struct EncoderModel {
    encoder: Encoder,
    about: About,
}

impl EncoderModel {
    /// Opens a model file's bytes. Costs a few milliseconds, for the vocabulary; the checksum is
    /// [`EncoderModel::verify`]'s.
    ///
    /// # Errors
    /// Where it is no model, of another format, or its parts don't fit.
    pub fn open(bytes: Vec<u8>) -> Result<EncoderModel, Error> {
        let file = Index::new(bytes)?;
        let about = file.raw(*b"EABO");
        if about.is_empty() {
            return Err(Error::KnowledgeBase);
        }
        let about: About = serde_json::from_slice(about).map_err(|_| Error::Parts)?;
        if about.format != FORMAT {
            return Err(Error::Format { found: about.format });
        }
        let encoder = Encoder::open(file).ok_or(Error::Parts)?;
        Ok(EncoderModel { encoder, about })
    }

    /// Opens a model file's bytes and compares their checksum.
    ///
    /// # Errors
    /// As [`EncoderModel::open`], or where a byte was changed.
    pub fn verify(bytes: Vec<u8>) -> Result<EncoderModel, Error> {
        let model = EncoderModel::open(bytes)?;
        model.encoder.file.verify_checksum()?;
        Ok(model)
    }

    /// What it says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The SHA-256 that the file bears of its content, in hexadecimal digits.
    pub fn digest(&self) -> String {
        self.encoder.file.checksum()
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The second stage's bytes.
    pub(crate) fn joined(&self) -> &[u8] {
        self.encoder.file.raw(*b"EJOI")
    }
}

/// Where the model file that belongs to this ttpmap is published, and what it bears as its digest.
#[derive(Debug, Clone, Deserialize)]
pub struct Published {
    /// Its address.
    pub url: String,
    /// [`EncoderModel::digest`] of it.
    pub sha256: String,
}

/// What data/encoder.json says.
///
/// # Panics
/// Never: a test reads the shipped file.
pub fn published() -> Published {
    serde_json::from_str(include_str!("../../data/encoder.json")).expect("the shipped file is right, as a test checks")
}

/// A model file of an encoder's weights (safetensors, as tools/encoder writes them) and the second stage that was trained
/// for it.
///
/// # Errors
/// What is wrong with the weights.
pub fn build(weights: &[u8], joined: &[u8], about: &About) -> Result<Vec<u8>, WeightsError> {
    let mut writer = Writer::default();
    let about = About { format: FORMAT, ..about.clone() };
    writer.put(*b"EABO", &serde_json::to_vec(&about).unwrap_or_default());
    weights::put(weights, &mut writer)?;
    writer.put(*b"EJOI", joined);
    Ok(writer.finish())
}

/// What is asked of a text as a whole: behaviour, and each status.
const WHOLE: usize = 1 + Status::ALL.len();

/// Pieces of a segment that are read, the first and the last (which are no words) included.
const OWN: usize = 64;
/// Of these, what the segments below a heading hear of it, and what a segment hears of the one before it.
const CONTEXT: [usize; 2] = [16, 32];
/// Segments that are answered before the next are looked at: what the first layers made of them and of their context is kept so
/// long. So many divided by [`SEGMENTS`] cores can read one document at the same time.
const WINDOW: usize = 128;
/// Pieces that are read at a time: what is in flight stays in a core's cache.
const AT_A_TIME: usize = 192;
/// Segments that one core reads at a time where there are several.
const SEGMENTS: usize = 8;

/// A segment that is to be read, and what stands before it ([`input::context`]), as places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) own: usize,
    pub(crate) context: [Option<usize>; 2],
}

/// What the encoder says of a segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Said {
    /// The probability of each of the encoder's techniques, and behind them of none.
    pub(crate) techniques: Vec<f32>,
    /// That it describes behaviour.
    pub(crate) behaviour: f32,
    /// Of each status, in the order of [`crate::status::Status::ALL`].
    pub(crate) statuses: [f32; 6],
}

/// A transformer with its vocabulary and the techniques it knows.
pub(crate) struct Encoder {
    file: Index<Vec<u8>>,
    pieces: Pieces,
    layers: Layers,
    /// The techniques of its answers, in their order.
    pub(crate) labels: Vec<AttackId>,
    processor: Processor,
}

impl Encoder {
    /// The encoder in a model file's sections; None where they are missing or don't fit each other.
    fn open(file: Index<Vec<u8>>) -> Option<Encoder> {
        let keys: &[U32] = file.section(*b"ECLS");
        let labels = keys.iter().map(|k| AttackId::from_key(k.get())).collect::<Option<Vec<_>>>()?;
        let pieces = Pieces::new(std::str::from_utf8(file.raw(*b"EPIE")).ok()?)?;
        let layers = Layers::open(&file)?;
        let fits = layers.words() == pieces.len() && layers.answers() == [labels.len() + 1, WHOLE] && !labels.is_empty();
        fits.then(|| Encoder { file, pieces, layers, labels, processor: Processor::all().pop().unwrap_or(Processor::Plain) })
    }

    /// What it says of each of some segments, on all cores; `text` gives the text of a place, as [`input::plain`] makes it. The
    /// same whatever stands beside it in the list. Keeps 25 MB at most at a time, 5 MB where segments are of ordinary length.
    pub(crate) fn read<'a>(&'a self, asked: &'a [Asked], text: impl Fn(usize) -> String + Sync + 'a) -> impl Iterator<Item = Said> + 'a {
        asked.chunks(WINDOW).flat_map(move |some| self.read_window(some, &text))
    }

    fn read_window(&self, asked: &[Asked], text: &(impl Fn(usize) -> String + Sync)) -> Vec<Said> {
        // Each place with how many of its pieces are needed afterwards.
        let own = asked.iter().map(|a| (a.own, OWN));
        let context = asked.iter().flat_map(|a| a.context.into_iter().zip(CONTEXT).filter_map(|(place, most)| Some((place?, most))));
        let mut places: Vec<(usize, usize)> = own.chain(context).collect();
        places.sort_unstable_by_key(|(place, most)| (*place, std::cmp::Reverse(*most)));
        places.dedup_by_key(|(place, _)| *place);
        let width = self.layers.width();
        let alone = |some: &[(usize, usize)]| self.alone(some.iter().map(|(place, most)| (text(*place), *most)));
        let rows: Vec<Vec<f32>> = places.par_chunks(SEGMENTS).flat_map_iter(alone).collect();
        let of = |place: usize| places.binary_search_by_key(&place, |(place, _)| *place).map_or(&[][..], |at| &rows[at]);
        // A text of no pieces but the first and the last says nothing.
        let heard = |place: Option<usize>, most: usize| match place.map_or(&[][..], of) {
            rows if rows.len() <= 2 * width => &[],
            rows => &rows[..rows.len().min(most * width)],
        };
        let one = |asked: &Asked| {
            let [heading, before] = asked.context;
            layers::Text { own: of(asked.own), context: [heard(heading, CONTEXT[0]), heard(before, CONTEXT[1])] }
        };
        asked.par_chunks(SEGMENTS).flat_map_iter(|some| self.together(some.iter().map(one))).collect()
    }

    /// What the first layers make of each of some texts: the rows of so many of its pieces.
    fn alone(&self, texts: impl Iterator<Item = (String, usize)>) -> Vec<Vec<f32>> {
        let (pieces, kept): (Vec<Vec<u16>>, Vec<usize>) = texts
            .map(|(text, most)| {
                let mut pieces = vec![self.pieces.first];
                self.pieces.cut(&text, OWN - 2, &mut pieces);
                pieces.push(self.pieces.last);
                let kept = most.min(pieces.len()) * self.layers.width();
                (pieces, kept)
            })
            .unzip();
        let mut out = Vec::with_capacity(pieces.len());
        for some in batches(&pieces, Vec::len) {
            let rows = self.processor.run(layers::Alone { layers: &self.layers, file: self.numbers(), texts: some });
            let mut rest = &rows[..];
            for text in some {
                let (own, behind) = rest.split_at(text.len() * self.layers.width());
                out.push(own[..kept[out.len()]].to_vec());
                rest = behind;
            }
        }
        out
    }

    /// What is said of each of some texts in the end.
    fn together<'t>(&self, texts: impl Iterator<Item = layers::Text<'t>>) -> Vec<Said> {
        let texts: Vec<layers::Text<'t>> = texts.collect();
        let mut out = Vec::with_capacity(texts.len());
        for some in batches(&texts, |text| text.own.len() / self.layers.width()) {
            let answers = self.processor.run(layers::Together { layers: &self.layers, file: self.numbers(), texts: some });
            for mut row in answers.chunks_exact(self.layers.answers().iter().sum()).map(<[f32]>::to_vec) {
                let statuses = row.split_off(self.labels.len() + 2);
                let behaviour = row.pop().unwrap_or_default();
                let mut said = Said { techniques: row, behaviour: 1.0 / (1.0 + arithmetic::exp(-behaviour)), ..Said::default() };
                said.statuses.copy_from_slice(&statuses);
                arithmetic::softmax(&mut said.techniques);
                arithmetic::softmax(&mut said.statuses);
                out.push(said);
            }
        }
        out
    }

    fn numbers(&self) -> &[i8] {
        <[i8]>::ref_from_bytes(self.file.bytes()).unwrap_or_default()
    }
}

/// Runs of a list that have [`AT_A_TIME`] pieces or a little more.
fn batches<T>(list: &[T], pieces: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let full = rest.iter().position(|t| {
            sum += pieces(t);
            sum >= AT_A_TIME
        });
        let (some, behind) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        rest = behind;
        (!some.is_empty()).then_some(some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The project's model file; None in a package without it, which is said.
    fn shipped() -> Option<Vec<u8>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/encoder.ttpmodel");
        let bytes = std::fs::read(path).ok();
        if bytes.is_none() {
            eprintln!("skipped: there is no {path}");
        }
        bytes
    }

    #[derive(Deserialize)]
    struct Case {
        text: String,
        heading: String,
        before: String,
        top: Vec<(String, f32)>,
        none: f32,
        behaviour: f32,
        status: [f32; 6],
    }

    /// What PyTorch said of these (tools/encoder/check.py --cases).
    fn cases() -> Vec<Case> {
        serde_json::from_str(include_str!("../../tests/data/encoder.json")).unwrap()
    }

    /// Texts, each with the heading and the text before it; empty for none.
    type Texts = Vec<[String; 3]>;

    fn texts() -> Texts {
        cases().into_iter().map(|c| [c.text, c.heading, c.before]).collect()
    }

    fn read(model: &EncoderModel, texts: &[[String; 3]]) -> Vec<Said> {
        let place = |i: usize, part: usize| (!texts[i][part].is_empty()).then_some(3 * i + part);
        let asked: Vec<Asked> = (0..texts.len()).map(|i| Asked { own: 3 * i, context: [place(i, 1), place(i, 2)] }).collect();
        model.encoder().read(&asked, |place| texts[place / 3][place % 3].clone()).collect()
    }

    #[test]
    fn it_says_what_pytorch_says() {
        let Some(bytes) = shipped() else { return };
        let model = EncoderModel::open(bytes).unwrap();
        let said = read(&model, &texts());
        for (case, said) in cases().iter().zip(&said) {
            let close = |a: f32, b: f32| assert!((a - b).abs() < 0.002, "{}: {a} and {b}", case.text);
            for (id, p) in &case.top {
                let place = model.encoder().labels.iter().position(|l| l.to_string() == *id).unwrap();
                close(said.techniques[place], *p);
            }
            close(*said.techniques.last().unwrap(), case.none);
            close(said.behaviour, case.behaviour);
            said.statuses.iter().zip(case.status).for_each(|(a, b)| close(*a, b));
        }
    }

    #[test]
    fn it_says_the_same_on_any_processor_in_any_batch() {
        let Some(bytes) = shipped() else { return };
        let mut model = EncoderModel::open(bytes).unwrap();
        let texts: Texts = texts().into_iter().cycle().take(WINDOW + 10).collect();
        let together = read(&model, &texts);
        for processor in Processor::all() {
            model.encoder.processor = processor;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            for size in [1, 3, texts.len()] {
                let few = if processor == Processor::Plain { 40 } else { texts.len() };
                let apart: Vec<Said> = pool.install(|| texts[..few].chunks(size).flat_map(|some| read(&model, some)).collect());
                assert!(apart == together[..few], "{processor:?}, {size} at a time");
                if processor == Processor::Plain {
                    break;
                }
            }
        }
    }

    #[test]
    fn the_shipped_model_is_the_published_one() {
        let Some(bytes) = shipped() else { return };
        let model = EncoderModel::verify(bytes).unwrap();
        assert_eq!(model.digest(), published().sha256);
        assert!(published().url.starts_with("https://"));
    }

    #[test]
    fn a_segment_that_is_context_too_is_heard_as_one_that_is_not() {
        let bytes = build(&small(), b"", &About::default()).unwrap();
        let model = EncoderModel::verify(bytes).unwrap();
        // A heading and what stands below it, each behind the other; and the same with texts of their own for all that is heard.
        let document = ["b b a", "ab a b", "", "b", &"ab ".repeat(90), "a"];
        let context = |i: usize| [(i > 0).then_some(0), i.checked_sub(1).filter(|before| *before > 0)];
        let asked: Vec<Asked> = (0..document.len()).map(|i| Asked { own: i, context: context(i) }).collect();
        let together: Vec<Said> = model.encoder().read(&asked, |place| document[place].to_owned()).collect();
        let text = |place: Option<usize>| place.map_or(String::new(), |p| document[p].to_owned());
        let apart: Texts = (0..document.len()).map(|i| [document[i].to_owned(), text(context(i)[0]), text(context(i)[1])]).collect();
        assert!(together == read(&model, &apart));
        // The context counts, the two kinds of it are told apart, and what is empty is none.
        let one = |heading: &str, before: &str| read(&model, &[["ab".to_owned(), heading.to_owned(), before.to_owned()]]).remove(0);
        let alone = one("", "");
        assert!(alone != one("a", "") && one("a", "") != one("", "a") && alone == one(" ", "\n"));
    }

    /// What tools/encoder would write of a very small encoder: two layers of one head, two techniques, weights by chance.
    fn small() -> Vec<u8> {
        const WIDTH: usize = 32;
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b"];
        let mut shapes = vec![
            ("words.weight".to_owned(), vec![pieces.len(), WIDTH]),
            ("places.weight".to_owned(), vec![layers::PLACES, WIDTH]),
            ("types.weight".to_owned(), vec![2, WIDTH]),
            ("marks.weight".to_owned(), vec![2, WIDTH]),
            ("norm.weight".to_owned(), vec![WIDTH]),
            ("norm.bias".to_owned(), vec![WIDTH]),
        ];
        for i in 0..2 {
            let layer = |name: &str| format!("layers.{i}.{name}");
            for (name, rows, columns) in [("qkv", 3 * WIDTH, WIDTH), ("out", WIDTH, WIDTH), ("up", 2, WIDTH), ("down", WIDTH, 2)] {
                shapes.push((layer(&format!("{name}.weight")), vec![rows, columns]));
                shapes.push((layer(&format!("{name}.bias")), vec![rows]));
            }
            shapes.extend(["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"].map(|name| (layer(name), vec![WIDTH])));
        }
        for (name, rows) in [("techniques", 3), ("look", 3), ("behaviour", 1), ("statuses", 6)] {
            shapes.push((format!("{name}.weight"), vec![rows, WIDTH]));
            shapes.push((format!("{name}.bias"), vec![rows]));
        }
        let mut random = crate::model::Random(5);
        let mut numbers: Vec<u8> = Vec::new();
        let mut header = serde_json::Map::new();
        for (name, shape) in shapes {
            let start = numbers.len();
            for _ in 0..shape.iter().product::<usize>() {
                numbers.extend(((random.next() % 2001) as f32 / 1000.0 - 1.0).to_le_bytes());
            }
            header.insert(name, serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, numbers.len()]}));
        }
        let list = |list: &[&str]| serde_json::to_string(list).unwrap();
        let meta = serde_json::json!({"classes": list(&["T1059", "T1105"]), "pieces": list(&pieces), "alone": "1"});
        header.insert("__metadata__".to_owned(), meta);
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &numbers].concat()
    }

    #[test]
    fn a_small_encoder_says_the_same_on_any_processor_in_any_batch() {
        let bytes = build(&small(), b"", &About::default()).unwrap();
        let mut model = EncoderModel::verify(bytes).unwrap();
        let text = |text: &str, heading: &str, before: &str| [text, heading, before].map(str::to_owned);
        let long = ["ab ", "a ", "b "].map(|piece| piece.repeat(90));
        let texts = [text("ab a b", "", ""), text("", "", ""), text("b", "b", "a a"), text(&long[0], &long[1], &long[2])];
        let together = read(&model, &texts);
        for said in &together {
            let whole = |p: &[f32]| (p.iter().sum::<f32>() - 1.0).abs() < 1e-5;
            assert!(said.techniques.len() == 3 && whole(&said.techniques) && whole(&said.statuses), "{said:?}");
        }
        assert!(together.windows(2).all(|w| w[0] != w[1]), "{together:?}");
        for processor in Processor::all() {
            model.encoder.processor = processor;
            for size in [1, 3] {
                let apart: Vec<Said> = texts.chunks(size).flat_map(|some| read(&model, some)).collect();
                assert!(apart == together, "{processor:?}, {size} at a time");
            }
        }
    }

    #[test]
    fn a_model_whose_sizes_are_wrong_is_refused() {
        let bytes = build(&small(), b"", &About::default()).unwrap();
        let sizes: Vec<u8> = [32_u32, 2, 2, 1, 3, WHOLE as u32].iter().flat_map(|n| n.to_le_bytes()).collect();
        let at = bytes.windows(sizes.len()).position(|w| w == sizes).unwrap();
        assert!(EncoderModel::open(bytes.clone()).is_ok());
        let most = u32::MAX;
        let wrong = [(0, 33), (0, 0), (1, 4), (2, 0), (2, 3), (3, 2), (3, most), (4, 0), (4, 1), (4, most), (5, 0), (5, 6)];
        for (number, value) in wrong {
            let mut other = bytes.clone();
            other[at + 4 * number..at + 4 * number + 4].copy_from_slice(&u32::to_le_bytes(value));
            assert!(matches!(EncoderModel::open(other), Err(Error::Parts)), "number {number} is {value}");
        }
    }

    #[test]
    fn what_is_no_model_is_told() {
        assert!(matches!(EncoderModel::open(vec![0; 200]), Err(Error::Foreign)));
        let index = Index::embedded();
        assert!(matches!(EncoderModel::open(index.into_inner().into_owned()), Err(Error::KnowledgeBase)));
        let Some(whole) = shipped() else { return };
        for cut in [9, 63, 64, 1000, whole.len() - 1] {
            assert!(EncoderModel::open(whole[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        // A byte that is another is found by the checksum, and does no harm where nobody asks.
        let mut other = whole.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        assert!(EncoderModel::verify(other.clone()).is_err());
        let model = EncoderModel::open(other).unwrap();
        assert_eq!(read(&model, &texts()).len(), cases().len());
    }
}
