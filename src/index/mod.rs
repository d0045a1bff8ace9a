//! The knowledge base as a file: opened by a look at its header, read by casts.
//!
//! [`build`] turns a [`KnowledgeBase`](crate::KnowledgeBase) into bytes; [`Index`] answers from them.
//! [`format`](mod@format) describes the layout.

pub mod build;
pub(crate) mod format;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::kb::id::{AttackId, Kind};
use crate::kb::{Domain, Provenance, RelationKind, State};
use format::{Header, List, NONE, ObjectRecord, RelationRecord, RelationText, SectionEntry, StixRecord, Str, tag};

/// Index files over this many bytes are refused.
pub const MAX_INDEX_BYTES: u64 = 256 << 20;

/// Why bytes can't be used as an index. Each says the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file can't be read.
    #[error("reading knowledge base {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something else than an index.
    #[error("not a ttpmap knowledge base; make one with `ttpmap update` or `ttpmap kb build`")]
    Foreign,
    /// Written by another version of ttpmap.
    #[error("knowledge base is format {found}, this build reads {expected}: run `ttpmap update`")]
    Version {
        /// The file's format.
        found: u32,
        /// The format this build reads.
        expected: u32,
    },
    /// The file ends early.
    #[error("knowledge base is cut short ({found} of {expected} bytes): run `ttpmap update`")]
    Truncated {
        /// Bytes there.
        found: u64,
        /// Bytes that its header promises.
        expected: u64,
    },
    /// Bytes were changed.
    #[error("knowledge base is damaged ({0}): run `ttpmap update`")]
    Damaged(String),
}

/// An open knowledge base over any bytes: a file read into a `Vec`, a static slice, a map.
///
/// Every answer is checked against the bounds of its section, so bytes that were damaged after opening give
/// missing answers and never a panic.
#[derive(Debug)]
pub struct Index<D> {
    data: D,
    sections: Vec<([u8; 4], usize, Range<usize>)>,
}

/// The knowledge base built into the library.
static EMBEDDED: &[u8] = include_bytes!("../../data/enterprise.ttpkb");

impl Index<Cow<'static, [u8]>> {
    /// The knowledge base built into the program: the enterprise domain, facts and model without prose.
    ///
    /// # Panics
    /// If the program was built with a damaged file; a test opens and verifies it.
    pub fn embedded() -> Index<Cow<'static, [u8]>> {
        Index::new(Cow::Borrowed(EMBEDDED)).expect("the built-in knowledge base is tested to open")
    }

    /// Opens an index file.
    ///
    /// # Errors
    /// Where the file can't be read or is no usable index.
    pub fn open(path: &Path) -> Result<Index<Cow<'static, [u8]>>, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > MAX_INDEX_BYTES {
            return Err(Error::Damaged(format!("{length} bytes, more than any knowledge base has")));
        }
        Index::new(Cow::Owned(std::fs::read(path).map_err(read)?))
    }
}

impl<D: AsRef<[u8]>> Index<D> {
    /// Checks header and section table, nothing else: see [`Index::verify`].
    ///
    /// # Errors
    /// Where the bytes are foreign, of another format version, cut short or damaged in the header.
    pub fn new(data: D) -> Result<Index<D>, Error> {
        let bytes = data.as_ref();
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| short(bytes))?;
        if header.magic != format::MAGIC {
            return Err(Error::Foreign);
        }
        if header.version.get() != format::FORMAT_VERSION {
            return Err(Error::Version { found: header.version.get(), expected: format::FORMAT_VERSION });
        }
        let found = bytes.len() as u64;
        if found < header.length.get() {
            return Err(Error::Truncated { found, expected: header.length.get() });
        }
        let count = header.sections.get();
        let table = usize::try_from(count).ok().filter(|_| count <= format::MAX_SECTIONS && found == header.length.get());
        let table = table.and_then(|n| <[SectionEntry]>::ref_from_prefix_with_elems(rest, n).ok());
        let Some((table, _)) = table else { return Err(Error::Damaged("header".into())) };
        let table_bytes = &bytes[format::HEADER_BYTES..format::HEADER_BYTES + size_of_val(table)];
        if format::fnv1a(&[&bytes[..56], table_bytes]) != header.table_hash.get() {
            return Err(Error::Damaged("header checksum".into()));
        }
        let mut sections = Vec::with_capacity(table.len());
        for entry in table {
            let start = usize::try_from(entry.offset.get()).ok();
            let end = start.zip(usize::try_from(entry.length.get()).ok()).and_then(|(s, l)| s.checked_add(l));
            let (Some(start), Some(end)) = (start, end.filter(|e| *e <= bytes.len())) else {
                return Err(Error::Damaged("section table".into()));
            };
            sections.push((entry.tag, entry.element.get() as usize, start..end));
        }
        Ok(Index { data, sections })
    }

    /// SHA-256 of the whole file, in lower-case hex. Reads all of it: some ten milliseconds.
    pub fn digest(&self) -> String {
        crate::source::digest(self.data.as_ref())
    }

    /// All its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.data.as_ref()
    }

    /// The checksum that the header bears, in hexadecimal digits; whether it is right, [`Index::verify`] says.
    pub(crate) fn checksum(&self) -> String {
        let header = Header::ref_from_prefix(self.data.as_ref());
        header.map_or_else(|_| String::new(), |(header, _)| crate::source::hex(&header.digest))
    }

    /// The bytes it was opened over.
    pub fn into_inner(self) -> D {
        self.data
    }

    /// Compares the checksum of everything behind the header.
    pub(crate) fn verify_checksum(&self) -> Result<(), Error> {
        use sha2::{Digest, Sha256};
        let bytes = self.data.as_ref();
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| short(bytes))?;
        if Sha256::digest(&bytes[format::HEADER_BYTES..])[..] != header.digest {
            return Err(Error::Damaged("checksum".into()));
        }
        Ok(())
    }

    /// Checks the checksum over every byte and that every record points to something that is there.
    ///
    /// # Errors
    /// [`Error::Damaged`], naming what is wrong.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_checksum()?;
        let damaged = |what: &str| Err(Error::Damaged(what.to_owned()));
        if std::str::from_utf8(self.raw(tag::STRINGS)).is_err() {
            return damaged("strings");
        }
        if self.provenance().is_none() {
            return damaged("provenance");
        }
        let objects = self.records();
        if !objects.is_sorted_by(|a, b| a.key.get() < b.key.get()) || objects.len() > usize::from(u16::MAX) {
            return damaged("order of objects");
        }
        for object in self.objects() {
            let whole = AttackId::from_key(object.record.key.get()).is_some() && State::from_u8(object.record.state).is_some();
            if !whole || object.name().is_empty() {
                return damaged("an object");
            }
        }
        let inside = |place: u16| usize::from(place) < objects.len();
        let relations: &[RelationRecord] = self.section(tag::RELATIONS);
        if !relations.iter().all(|r| inside(r.source.get()) && inside(r.target.get()) && RelationKind::from_u8(r.kind).is_some()) {
            return damaged("a relation");
        }
        Ok(())
    }

    /// Where a section lies in the bytes.
    pub(crate) fn range(&self, tag: [u8; 4]) -> Option<Range<usize>> {
        self.sections.iter().find(|s| s.0 == tag).map(|s| s.2.clone())
    }

    /// The bytes of a section; empty where there is none.
    pub(crate) fn raw(&self, tag: [u8; 4]) -> &[u8] {
        self.data.as_ref().get(self.range(tag).unwrap_or_default()).unwrap_or_default()
    }

    /// A section as its records; empty where there is none or the record size is another.
    pub(crate) fn section<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, tag: [u8; 4]) -> &[T] {
        let fits = self.sections.iter().any(|s| s.0 == tag && s.1 == size_of::<T>());
        if !fits {
            return &[];
        }
        <[T]>::ref_from_bytes(self.raw(tag)).unwrap_or_default()
    }

    pub(crate) fn string(&self, s: Str) -> &str {
        let start = s.start.get() as usize;
        let bytes = self.raw(tag::STRINGS).get(start..start.saturating_add(s.length.get() as usize));
        bytes.and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    fn strings(&self, list: List) -> impl Iterator<Item = &str> {
        part(self.section::<Str>(tag::STRING_LISTS), list).iter().map(|s| self.string(*s))
    }

    pub(crate) fn records(&self) -> &[ObjectRecord] {
        self.section(tag::OBJECTS)
    }

    /// Where the knowledge base comes from; None where the section is damaged.
    pub fn provenance(&self) -> Option<Provenance> {
        let meta: &[Str] = self.section(tag::META);
        let [version, relations, source, facts, notice, tool, date, domain] = meta else { return None };
        let text = |s: &Str| self.string(*s).to_owned();
        Some(Provenance {
            domain: self.string(*domain).parse().ok()?,
            version: text(version),
            relations_version: text(relations),
            source_digest: text(source),
            facts_digest: text(facts),
            notice: text(notice),
            tool_version: text(tool),
            date: text(date),
        })
    }

    /// The domain; enterprise where the section is damaged.
    pub fn domain(&self) -> Domain {
        self.section::<Str>(tag::META).get(7).and_then(|s| self.string(*s).parse().ok()).unwrap_or(Domain::Enterprise)
    }

    /// ATT&CK version of techniques and tactics.
    pub fn version(&self) -> &str {
        self.section::<Str>(tag::META).first().map(|s| self.string(*s)).unwrap_or_default()
    }

    /// Every object, by ID.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = ObjectRef<'_, D>> {
        (0..self.records().len()).map(|place| ObjectRef { index: self, record: &self.records()[place], place: place as u16 })
    }

    /// Objects of one kind, by ID.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = ObjectRef<'_, D>> {
        self.objects().filter(move |o| o.id().kind() == kind)
    }

    /// The object with this ID, in force or not. A binary search.
    pub fn get(&self, id: AttackId) -> Option<ObjectRef<'_, D>> {
        let place = self.records().binary_search_by_key(&id.key(), |r| r.key.get()).ok()?;
        self.at(place as u16)
    }

    /// The object in force for an ID: itself or its final successor. None where the ID is unknown or was
    /// revoked without one.
    pub fn current(&self, id: AttackId) -> Option<ObjectRef<'_, D>> {
        let object = self.get(id)?;
        match object.state() {
            State::Revoked => self.get(object.successor()?).filter(|o| o.state() != State::Revoked),
            _ => Some(object),
        }
    }

    pub(crate) fn at(&self, place: u16) -> Option<ObjectRef<'_, D>> {
        self.records().get(usize::from(place)).map(|record| ObjectRef { index: self, record, place })
    }

    /// The tactics in matrix order.
    pub fn tactics(&self) -> impl Iterator<Item = ObjectRef<'_, D>> {
        let keys: &[zerocopy::byteorder::little_endian::U32] = self.section(tag::TACTICS);
        keys.iter().filter_map(|k| self.get(AttackId::from_key(k.get())?))
    }

    fn relation(&self, place: usize) -> Option<RelationRef<'_, D>> {
        let record = self.section::<RelationRecord>(tag::RELATIONS).get(place)?;
        Some(RelationRef {
            index: self,
            kind: RelationKind::from_u8(record.kind)?,
            source: self.at(record.source.get())?,
            target: self.at(record.target.get())?,
            place,
        })
    }

    /// Whether descriptions and procedure texts are there.
    pub fn has_prose(&self) -> bool {
        !self.section::<RelationText>(tag::RELATION_TEXTS).is_empty()
    }

    /// Every relation, by source, kind and target.
    pub fn relations(&self) -> impl Iterator<Item = RelationRef<'_, D>> {
        (0..self.section::<RelationRecord>(tag::RELATIONS).len()).filter_map(|place| self.relation(place))
    }
}

fn short(bytes: &[u8]) -> Error {
    let start = bytes.len().min(format::MAGIC.len());
    if start > 0 && bytes[..start] == format::MAGIC[..start] {
        Error::Truncated { found: bytes.len() as u64, expected: format::HEADER_BYTES as u64 }
    } else {
        Error::Foreign
    }
}

pub(crate) fn part<T>(all: &[T], list: List) -> &[T] {
    let start = list.start.get() as usize;
    all.get(start..start.saturating_add(list.count.get() as usize)).unwrap_or_default()
}

/// An object in an [`Index`].
#[derive(Debug)]
pub struct ObjectRef<'a, D> {
    index: &'a Index<D>,
    record: &'a ObjectRecord,
    place: u16,
}

impl<D> Clone for ObjectRef<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for ObjectRef<'_, D> {}

impl<'a, D: AsRef<[u8]>> ObjectRef<'a, D> {
    /// Its ID.
    pub fn id(self) -> AttackId {
        // `verify` finds a key that is none; until then any ID will do, as long as nothing panics.
        AttackId::from_key(self.record.key.get()).or_else(|| AttackId::new(Kind::Technique, 0, 0)).expect("T0000 is an ID")
    }

    /// Its place among the objects, which relations and matchers refer to.
    pub(crate) fn place(self) -> u16 {
        self.place
    }

    /// Its name; for a sub-technique its own part only.
    pub fn name(self) -> &'a str {
        self.index.string(self.record.name)
    }

    /// Its name with the parent's in front: "Phishing: Spearphishing Attachment".
    pub fn full_name(self) -> String {
        match self.parent() {
            Some(parent) => format!("{}: {}", parent.name(), self.name()),
            None => self.name().to_owned(),
        }
    }

    /// The technique above a sub-technique.
    pub fn parent(self) -> Option<ObjectRef<'a, D>> {
        let id = self.id();
        if id.is_subtechnique() { self.index.get(id.parent()) } else { None }
    }

    /// The sub-techniques in force.
    pub fn subtechniques(self) -> impl Iterator<Item = ObjectRef<'a, D>> {
        let (id, index) = (self.id(), self.index);
        let following = (self.place + 1..).map_while(move |place| index.at(place));
        following.take_while(move |o| o.id().parent() == id).filter(|o| o.state() == State::Active)
    }

    /// Other names in use.
    pub fn aliases(self) -> impl Iterator<Item = &'a str> {
        self.index.strings(self.record.aliases)
    }

    /// Names of earlier releases.
    pub fn former_names(self) -> impl Iterator<Item = &'a str> {
        self.index.strings(self.record.former_names)
    }

    /// Platforms.
    pub fn platforms(self) -> impl Iterator<Item = &'a str> {
        self.index.strings(self.record.platforms)
    }

    /// A technique's tactics, in matrix order.
    pub fn tactics(self) -> impl Iterator<Item = ObjectRef<'a, D>> {
        let keys: &[zerocopy::byteorder::little_endian::U32] = self.index.section(tag::KEYS);
        part(keys, self.record.tactics).iter().filter_map(move |k| self.index.get(AttackId::from_key(k.get())?))
    }

    /// A tactic's short name; empty for all else.
    pub fn short_name(self) -> &'a str {
        self.index.string(self.record.short_name)
    }

    /// ATT&CK's description; empty where the knowledge base has no prose.
    pub fn description(self) -> &'a str {
        self.index.string(self.record.description)
    }

    /// ttpmap's own line about a technique; may be empty.
    pub fn gloss(self) -> &'a str {
        self.index.string(self.record.gloss)
    }

    /// Whether it is in force.
    pub fn state(self) -> State {
        State::from_u8(self.record.state).unwrap_or(State::Deprecated)
    }

    /// The final successor of a revoked object.
    pub fn successor(self) -> Option<AttackId> {
        let key = self.record.successor.get();
        if key == NONE { None } else { AttackId::from_key(key) }
    }

    /// The UUID of its STIX ID. None where the knowledge base was built without prose, and for what only a fact table
    /// speaks of.
    pub fn stix_uuid(self) -> Option<uuid::Uuid> {
        let ids: &[StixRecord] = self.index.section(tag::STIX_IDS);
        let at = ids.binary_search_by_key(&self.place, |r| r.object.get()).ok()?;
        Some(uuid::Uuid::from_bytes(ids[at].uuid))
    }

    /// Relations that start here.
    pub fn outgoing(self) -> impl Iterator<Item = RelationRef<'a, D>> {
        let relations: &[RelationRecord] = self.index.section(tag::RELATIONS);
        let start = relations.partition_point(|r| r.source.get() < self.place);
        let end = relations.partition_point(|r| r.source.get() <= self.place);
        (start..end).filter_map(move |place| self.index.relation(place))
    }

    /// Relations that end here, by source.
    pub fn incoming(self) -> impl Iterator<Item = RelationRef<'a, D>> {
        let relations: &[RelationRecord] = self.index.section(tag::RELATIONS);
        let order: &[zerocopy::byteorder::little_endian::U32] = self.index.section(tag::RELATIONS_BY_TARGET);
        let target =
            move |at: &zerocopy::byteorder::little_endian::U32| relations.get(at.get() as usize).map_or(u16::MAX, |r| r.target.get());
        let start = order.partition_point(|at| target(at) < self.place);
        let end = order.partition_point(|at| target(at) <= self.place);
        order[start..end.max(start)].iter().filter_map(move |at| self.index.relation(at.get() as usize))
    }
}

/// A relation in an [`Index`].
#[derive(Debug)]
pub struct RelationRef<'a, D> {
    index: &'a Index<D>,
    /// How the source stands to the target.
    pub kind: RelationKind,
    /// Where it starts.
    pub source: ObjectRef<'a, D>,
    /// Where it ends.
    pub target: ObjectRef<'a, D>,
    place: usize,
}

impl<'a, D: AsRef<[u8]>> RelationRef<'a, D> {
    fn prose(&self) -> Option<&'a RelationText> {
        self.index.section::<RelationText>(tag::RELATION_TEXTS).get(self.place)
    }

    /// The procedure text; empty where there is no prose.
    pub fn text(&self) -> &'a str {
        self.prose().map(|t| self.index.string(t.text)).unwrap_or_default()
    }

    /// The name of the source that ATT&CK cites for it; may be empty.
    pub fn reference(&self) -> &'a str {
        self.prose().map(|t| self.index.string(t.reference)).unwrap_or_default()
    }
}
