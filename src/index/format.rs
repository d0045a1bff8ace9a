//! The bytes of an index file (`.ttpkb`): the one place that knows them.
//!
//! ```text
//! offset  size  what
//!      0     8  magic  89 't' 't' 'p' 'k' 'b' 0d 0a
//!      8     4  format version
//!     12     4  number of sections n
//!     16     8  length of the whole file
//!     24    32  SHA-256 of everything from offset 64 to the end
//!     56     8  FNV-1a over bytes 0..56 and the section table
//!     64  24·n  section table: tag (4 ASCII bytes), element size (4), offset (8), length in bytes (8)
//!      …     …  sections, each at a multiple of 8, zero bytes between
//! ```
//!
//! All numbers are little-endian and unaligned-safe ([`zerocopy::byteorder`]), so that opening is a look at
//! the header and the table, and reading is a cast. Opening costs the same however large the file is; only
//! [`super::Index::verify`] reads it all.
//!
//! Format versions are not converted: an index is rebuilt from its bundle in seconds. Whoever changes a
//! record below, or what a number in the models' rows means, raises [`FORMAT_VERSION`].

use zerocopy::byteorder::little_endian::{F32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes. Not ASCII at the front and with a line end, as PNG's, so that a transfer as text
/// is noticed.
pub(crate) const MAGIC: [u8; 8] = *b"\x89ttpkb\r\n";
/// Raised with every change of layout, and of what the numbers in a model's rows mean.
pub(crate) const FORMAT_VERSION: u32 = 3;
pub(crate) const HEADER_BYTES: usize = 64;
/// More sections than this are refused.
pub(crate) const MAX_SECTIONS: u32 = 256;

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name { $($(#[$fdoc])* pub(crate) $field: $type,)* }
    };
}

record! {
    /// The fixed part at the front.
    Header {
        magic: [u8; 8],
        version: U32,
        sections: U32,
        length: U64,
        digest: [u8; 32],
        table_hash: U64,
    }
}

record! {
    /// One line of the section table.
    SectionEntry {
        tag: [u8; 4],
        element: U32,
        offset: U64,
        length: U64,
    }
}

record! {
    /// A piece of the string heap.
    Str {
        start: U32,
        length: U32,
    }
}

record! {
    /// A run of elements in another section.
    List {
        start: U32,
        count: U32,
    }
}

record! {
    /// An ATT&CK object; sorted by key.
    ObjectRecord {
        key: U32,
        /// Key of the successor; `NONE` where there is none.
        successor: U32,
        name: Str,
        short_name: Str,
        description: Str,
        gloss: Str,
        /// In `STRL`.
        aliases: List,
        /// In `STRL`.
        former_names: List,
        /// In `STRL`.
        platforms: List,
        /// Keys, in `KEYS`.
        tactics: List,
        state: u8,
    }
}

record! {
    /// A relation between two objects, by their places in `OBJS`; sorted by source, kind, target.
    RelationRecord {
        source: U16,
        target: U16,
        kind: u8,
    }
}

record! {
    /// The prose of a relation, parallel to `RELS`; the section is empty where there is no prose.
    RelationText {
        text: Str,
        reference: Str,
    }
}

record! {
    /// The UUID of an object's STIX ID; sorted by object. Only of what hand-offs point at where there is no prose.
    StixRecord {
        object: U16,
        uuid: [u8; 16],
    }
}

record! {
    /// A name that `lookup` finds; sorted by its folded text, then object.
    NameRecord {
        folded: Str,
        /// Which letters and digits occur, one bit each (see `lookup::letters`).
        letters: U64,
        object: U16,
        /// What kind of name: see `lookup::NameKind`.
        kind: u8,
        /// Characters in the folded text, at most 255.
        length: u8,
    }
}

record! {
    /// A stem of the phrase vocabulary: its place among the stems sorted by first byte, length and text.
    StemRecord {
        hash: U64,
        id: U16,
    }
}

record! {
    /// A phrase that is searched for in narratives.
    PhraseRecord {
        /// As it was written.
        text: Str,
        /// Where its stem ids start in `PTOK`, and how many they are.
        stems_start: U32,
        /// Behind them the stem ids of which one must stand in the same sentence.
        stems_count: u8,
        near_count: u8,
        /// How often a hit is right, learned from labelled reports, in 255ths.
        precision: u8,
        object: U16,
        /// See `matching::phrases::Origin`.
        origin: u8,
        /// See `matching::phrases`.
        flags: u8,
    }
}

record! {
    /// An artifact rule.
    RuleRecord {
        reason: Str,
        /// The pattern as written.
        pattern: Str,
        object: U16,
        /// How often a hit is right; 0..1.
        precision: F32,
    }
}

record! {
    /// One sequence of literals of a rule, in `ALIT`, which must occur in this order.
    SequenceRecord {
        literals: List,
        /// The automaton's number for how the first begins.
        prefix: U16,
        rule: U16,
    }
}

impl PhraseRecord {
    pub(crate) fn stems(&self) -> List {
        List { start: self.stems_start, count: U32::new(u32::from(self.stems_count)) }
    }

    pub(crate) fn near(&self) -> List {
        let start = self.stems_start.get().saturating_add(u32::from(self.stems_count));
        List { start: U32::new(start), count: U32::new(u32::from(self.near_count)) }
    }

    pub(crate) fn precision(&self) -> f32 {
        f32::from(self.precision) / 255.0
    }
}

/// A key that stands for no object.
pub(crate) const NONE: u32 = u32::MAX;

/// Section tags.
pub(crate) mod tag {
    pub(crate) const META: [u8; 4] = *b"META";
    pub(crate) const STRINGS: [u8; 4] = *b"STRS";
    pub(crate) const STRING_LISTS: [u8; 4] = *b"STRL";
    pub(crate) const KEYS: [u8; 4] = *b"KEYS";
    pub(crate) const TACTICS: [u8; 4] = *b"TACT";
    pub(crate) const OBJECTS: [u8; 4] = *b"OBJS";
    pub(crate) const RELATIONS: [u8; 4] = *b"RELS";
    pub(crate) const RELATIONS_BY_TARGET: [u8; 4] = *b"RELT";
    pub(crate) const RELATION_TEXTS: [u8; 4] = *b"RTXT";
    pub(crate) const NAMES: [u8; 4] = *b"NAME";
    pub(crate) const STEMS: [u8; 4] = *b"STEM";
    pub(crate) const STEM_TEXTS: [u8; 4] = *b"STXT";
    pub(crate) const PHRASES: [u8; 4] = *b"PHRA";
    pub(crate) const PHRASE_TOKENS: [u8; 4] = *b"PTOK";
    pub(crate) const ANCHORS: [u8; 4] = *b"ANCH";
    pub(crate) const ANCHOR_LISTS: [u8; 4] = *b"ANCL";
    pub(crate) const RULES: [u8; 4] = *b"RULE";
    pub(crate) const SEQUENCES: [u8; 4] = *b"ASEQ";
    pub(crate) const LITERALS: [u8; 4] = *b"ALIT";
    pub(crate) const AUTOMATON: [u8; 4] = *b"AAUT";
    pub(crate) const MODEL: [u8; 4] = *b"MODL";
    pub(crate) const STIX_IDS: [u8; 4] = *b"STIX";
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo). Stable by definition, unlike the standard library's hashers, so it may
/// be written to disk.
pub(crate) fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|p| p.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// Collects sections and writes the file.
#[derive(Default)]
pub(crate) struct Writer {
    sections: Vec<([u8; 4], usize, Vec<u8>)>,
}

impl Writer {
    pub(crate) fn put<T: IntoBytes + Immutable>(&mut self, tag: [u8; 4], elements: &[T]) {
        self.sections.push((tag, size_of::<T>().max(1), elements.as_bytes().to_vec()));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        use sha2::{Digest, Sha256};
        let mut offset = HEADER_BYTES + self.sections.len() * size_of::<SectionEntry>();
        let mut table = Vec::new();
        for (tag, element, bytes) in &self.sections {
            offset = offset.next_multiple_of(8);
            table.push(SectionEntry {
                tag: *tag,
                element: U32::new(*element as u32),
                offset: U64::new(offset as u64),
                length: U64::new(bytes.len() as u64),
            });
            offset += bytes.len();
        }
        let mut body = table.as_bytes().to_vec();
        for (entry, (_, _, bytes)) in table.iter().zip(&self.sections) {
            body.resize(entry.offset.get() as usize - HEADER_BYTES, 0);
            body.extend_from_slice(bytes);
        }
        let mut header = Header {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            sections: U32::new(table.len() as u32),
            length: U64::new((HEADER_BYTES + body.len()) as u64),
            digest: Sha256::digest(&body).into(),
            table_hash: U64::new(0),
        };
        header.table_hash = U64::new(fnv1a(&[&header.as_bytes()[..56], table.as_bytes()]));
        let mut file = header.as_bytes().to_vec();
        file.extend_from_slice(&body);
        file
    }
}
