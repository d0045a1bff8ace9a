//! ttpmap reads an incident narrative and says which MITRE ATT&CK techniques it describes, where in the text
//! and how sure it is; it answers look-ups, and writes ATT&CK Navigator layers.
//!
//! ```text
//! ATT&CK STIX JSON -> stix -> KnowledgeBase -> model -> index file (.ttpkb) -> Index
//! narrative -> Document -> segments -> finders -> Mapping -> export
//! ```
//!
//! [`KnowledgeBase`] is ATT&CK in memory, as it is built; [`Index`] is the same as a file, opened without
//! parsing. A [`Mapper`] reads a [`Document`] and gives a [`Mapping`]; [`export`] writes it in every format.
//! Nothing of ATT&CK's content is in the code: tactics, names and counts come from the bundle.
//!
//! ```
//! use ttpmap::{Document, Index, Mapper};
//!
//! let index = Index::embedded();
//! let mapper = Mapper::new(&index);
//! let document = Document::new("They dumped LSASS memory with Mimikatz and moved laterally over RDP.");
//! let mapping = mapper.map(&document, &Default::default());
//! let ids: Vec<String> = mapping.techniques.iter().map(|t| t.id.to_string()).collect();
//! assert!(ids.contains(&"T1003.001".to_owned()) && ids.contains(&"T1021.001".to_owned()), "{ids:?}");
//! ```

#![warn(clippy::print_stdout)]

pub mod curated;
pub mod encoder;
pub mod eval;
pub mod export;
pub mod index;
pub mod ingest;
pub mod kb;
pub mod layer;
pub mod lookup;
mod matching;
pub mod model;
pub mod profile;
pub mod rank;
pub mod source;
pub mod status;
pub mod stix;
pub mod summary;
pub mod text;

pub use index::Index;
pub use kb::id::{AttackId, Kind, ParseIdError};
pub use kb::{Domain, KnowledgeBase};
pub use matching::Finder;
pub use rank::{Mapper, Mapping};
pub use text::{Document, Span};
