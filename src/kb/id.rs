//! ATT&CK IDs: parsed once at the edge into a type that cannot be wrong.

use std::fmt;
use std::str::FromStr;

/// What an ATT&CK ID names. The order is the order in which kinds are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// `TA0001`
    Tactic = 0,
    /// `T1059` and, with a part after the dot, the sub-technique `T1059.001`
    Technique = 1,
    /// `G0007`
    Group = 2,
    /// `S0002`: malware or a tool
    Software = 3,
    /// `C0024`
    Campaign = 4,
    /// `M1036`
    Mitigation = 5,
    /// `DC0084`
    DataComponent = 6,
    /// `DET0103`
    DetectionStrategy = 7,
    /// `AN0110`
    Analytic = 8,
}

impl Kind {
    /// Every kind, in listing order.
    pub const ALL: [Kind; 9] = [
        Kind::Tactic,
        Kind::Technique,
        Kind::Group,
        Kind::Software,
        Kind::Campaign,
        Kind::Mitigation,
        Kind::DataComponent,
        Kind::DetectionStrategy,
        Kind::Analytic,
    ];

    /// The letters before the number, as ATT&CK writes them.
    pub const fn prefix(self) -> &'static str {
        match self {
            Kind::Tactic => "TA",
            Kind::Technique => "T",
            Kind::Group => "G",
            Kind::Software => "S",
            Kind::Campaign => "C",
            Kind::Mitigation => "M",
            Kind::DataComponent => "DC",
            Kind::DetectionStrategy => "DET",
            Kind::Analytic => "AN",
        }
    }

    /// The kind's name as it appears in JSON: lower case, words joined by a hyphen.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Tactic => "tactic",
            Kind::Technique => "technique",
            Kind::Group => "group",
            Kind::Software => "software",
            Kind::Campaign => "campaign",
            Kind::Mitigation => "mitigation",
            Kind::DataComponent => "data-component",
            Kind::DetectionStrategy => "detection-strategy",
            Kind::Analytic => "analytic",
        }
    }

    /// The path of the kind's pages on the ATT&CK site.
    const fn page(self) -> &'static str {
        match self {
            Kind::Tactic => "tactics",
            Kind::Technique => "techniques",
            Kind::Group => "groups",
            Kind::Software => "software",
            Kind::Campaign => "campaigns",
            Kind::Mitigation => "mitigations",
            Kind::DataComponent => "datacomponents",
            Kind::DetectionStrategy => "detectionstrategies",
            Kind::Analytic => "analytics",
        }
    }

    pub(crate) fn from_u8(value: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| *k as u8 == value)
    }
}

/// One ATT&CK ID: a kind, a number of four digits and, for a sub-technique, its three digits.
///
/// The order is by kind, then number, then sub-technique, which is the order ATT&CK lists them in.
///
/// ```
/// use ttpmap::AttackId;
/// let id: AttackId = "T1059.001".parse()?;
/// assert_eq!(id.to_string(), "T1059.001");
/// assert_eq!(id.parent().to_string(), "T1059");
/// # Ok::<(), ttpmap::ParseIdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttackId {
    kind: Kind,
    number: u16,
    /// 0 where the ID has no part after the dot; ATT&CK numbers sub-techniques from 1.
    sub: u16,
}

impl AttackId {
    /// An ID from its parts; `sub` 0 means none. None where ATT&CK could not write it: a number over
    /// 9999, a sub over 999, or a sub on anything but a technique.
    pub fn new(kind: Kind, number: u16, sub: u16) -> Option<AttackId> {
        let fits = number <= 9999 && sub <= 999 && (sub == 0 || kind == Kind::Technique);
        fits.then_some(AttackId { kind, number, sub })
    }

    /// What the ID names.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// The technique above a sub-technique; the ID itself otherwise.
    #[must_use]
    pub fn parent(self) -> AttackId {
        AttackId { sub: 0, ..self }
    }

    /// Whether this is a sub-technique.
    pub fn is_subtechnique(self) -> bool {
        self.sub != 0
    }

    /// The public page of the object on the ATT&CK site.
    pub fn url(self) -> String {
        let page = self.kind.page();
        let base = self.parent();
        if self.is_subtechnique() {
            format!("https://attack.mitre.org/{page}/{base}/{:03}", self.sub)
        } else {
            format!("https://attack.mitre.org/{page}/{base}")
        }
    }

    /// One number that sorts as the ID does: kind in the top byte, then number and sub-technique.
    pub(crate) fn key(self) -> u32 {
        ((self.kind as u32) << 28) | (u32::from(self.number) << 12) | u32::from(self.sub)
    }

    pub(crate) fn from_key(key: u32) -> Option<AttackId> {
        let kind = Kind::from_u8((key >> 28) as u8)?;
        AttackId::new(kind, ((key >> 12) & 0xffff) as u16, (key & 0xfff) as u16)
    }
}

impl fmt::Display for AttackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.sub == 0 {
            format!("{}{:04}", self.kind.prefix(), self.number)
        } else {
            format!("{}{:04}.{:03}", self.kind.prefix(), self.number, self.sub)
        };
        f.pad(&text)
    }
}

/// The text is not an ATT&CK ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ATT&CK ID (such as T1059, T1059.001, TA0001, G0007, S0002, C0024, M1036)")]
pub struct ParseIdError(pub String);

impl FromStr for AttackId {
    type Err = ParseIdError;

    /// Reads the official form in any case, and the forms people write for a sub-technique:
    /// `T1059/001`, `T1059-001`, `T1059_001`.
    fn from_str(text: &str) -> Result<AttackId, ParseIdError> {
        scan(text.as_bytes())
            .filter(|(_, length)| *length == text.len())
            .map(|(id, _)| id)
            .ok_or_else(|| ParseIdError(text.chars().take(40).collect()))
    }
}

/// Reads an ID at the start of `bytes`; gives it and its length in bytes. A digit right after the four
/// (or three) that belong to the ID means that it is none.
pub(crate) fn scan(bytes: &[u8]) -> Option<(AttackId, usize)> {
    let letters = bytes.iter().take(4).take_while(|b| b.is_ascii_alphabetic()).count();
    let kind =
        Kind::ALL.into_iter().find(|k| k.prefix().len() == letters && k.prefix().as_bytes().eq_ignore_ascii_case(&bytes[..letters]))?;
    let number = digits(&bytes[letters..], 4)?;
    let mut length = letters + 4;
    let mut sub = 0;
    if kind == Kind::Technique {
        let rest = &bytes[length..];
        // Defanged or odd separators: T1059[.]001, T1059/001, T1059-001, T1059_001.
        let separator = [&b"."[..], b"[.]", b"(.)", b"/", b"-", b"_"].into_iter().find(|s| rest.starts_with(s));
        if let Some(separator) = separator
            && let Some(value) = digits(&rest[separator.len()..], 3)
            && value > 0
        {
            sub = value;
            length += separator.len() + 3;
        }
    }
    AttackId::new(kind, number, sub).map(|id| (id, length))
}

/// Exactly `count` digits, not followed by another.
fn digits(bytes: &[u8], count: usize) -> Option<u16> {
    let found = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    (found == count).then(|| bytes[..count].iter().fold(0, |n, b| n * 10 + u16::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_forms_are_read_and_others_refused() {
        for (text, expected) in [
            ("T1059.001", Some("T1059.001")),
            ("t1059/001", Some("T1059.001")),
            ("T1059-001", Some("T1059.001")),
            ("T1059[.]001", Some("T1059.001")),
            ("TA0008", Some("TA0008")),
            ("DET0103", Some("DET0103")),
            ("T10591", None),
            ("T1059.0011", None),
            ("T105", None),
            ("G0007.001", None),
            ("", None),
            ("é1059", None),
        ] {
            assert_eq!(text.parse::<AttackId>().ok().map(|i| i.to_string()).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_of_display_is_the_id(kind in 0_u8..9, number in 0_u16..10000, sub in 0_u16..1000) {
            let kind = Kind::from_u8(kind).unwrap();
            let sub = if kind == Kind::Technique { sub } else { 0 };
            let id = AttackId::new(kind, number, sub).unwrap();
            prop_assert_eq!(id.to_string().parse::<AttackId>().unwrap(), id);
            prop_assert_eq!(AttackId::from_key(id.key()).unwrap(), id);
        }

        #[test]
        fn scanning_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = scan(&bytes);
        }
    }
}
