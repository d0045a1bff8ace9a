//! Where the values of a JSON text stand.

use std::collections::BTreeMap;

/// Values whose places are kept; those of what comes after are told by what holds them.
const MAX_PLACES: usize = 2_000_000;

/// The byte offset of every value by its path (`techniques[3].score`, `` for the whole), and the offsets of keys that
/// stand twice in one object. The text must be JSON; of anything else, what is read of it.
pub(super) fn places(text: &str) -> (BTreeMap<String, usize>, Vec<(String, usize)>) {
    let mut reader = Reader { bytes: text.as_bytes(), text, at: 0, out: BTreeMap::new(), twice: Vec::new() };
    let _ = reader.value(String::new(), 0);
    (reader.out, reader.twice)
}

/// Counts lines and columns of offsets that come in order, in one pass over the text.
pub(super) struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    column: usize,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Lines<'t> {
        Lines { text, at: 0, line: 1, column: 1 }
    }

    /// Line and column of a byte offset, both from 1, the column in characters. An offset before the last one counts as
    /// that one.
    pub(super) fn line_column(&mut self, offset: usize) -> (usize, usize) {
        for c in self.text.get(self.at..offset.max(self.at)).unwrap_or_default().chars() {
            (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.at = offset.max(self.at);
        (self.line, self.column)
    }
}

struct Reader<'t> {
    bytes: &'t [u8],
    text: &'t str,
    at: usize,
    out: BTreeMap<String, usize>,
    twice: Vec<(String, usize)>,
}

impl Reader<'_> {
    fn space(&mut self) -> Option<u8> {
        while self.bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// The string at the place, without its quotes; escapes stay.
    fn string(&mut self) -> Option<String> {
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at - 1).map(str::to_owned)
    }

    fn value(&mut self, path: String, depth: usize) -> Option<()> {
        // serde_json, which has read the text before, goes no deeper.
        if depth > 200 {
            return None;
        }
        let first = self.space()?;
        if self.out.len() < MAX_PLACES && self.out.insert(path.clone(), self.at).is_some() {
            self.twice.push((path.clone(), self.at));
        }
        match first {
            b'{' => self.object(&path, depth),
            b'[' => self.array(&path, depth),
            b'"' => self.string().map(|_| ()),
            _ => {
                let start = self.at;
                while self.bytes.get(self.at).is_some_and(|b| !b.is_ascii_whitespace() && !matches!(b, b',' | b']' | b'}')) {
                    self.at += 1;
                }
                // What is no value ends it: text that is no JSON must not hold the reader up.
                (self.at > start).then_some(())
            }
        }
    }

    fn object(&mut self, path: &str, depth: usize) -> Option<()> {
        self.at += 1;
        loop {
            match self.space()? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let key = self.string()?;
                    self.space()?;
                    self.at += 1;
                    let inner = if path.is_empty() { key } else { format!("{path}.{key}") };
                    self.value(inner, depth + 1)?;
                }
            }
        }
        self.at += 1;
        Some(())
    }

    fn array(&mut self, path: &str, depth: usize) -> Option<()> {
        self.at += 1;
        let mut count = 0;
        loop {
            match self.space()? {
                b']' => break,
                b',' => self.at += 1,
                _ => {
                    self.value(format!("{path}[{count}]"), depth + 1)?;
                    count += 1;
                }
            }
        }
        self.at += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_stand() {
        let text = "[ {\"a\": \"x\\\"y\",\n \"b\": [1, {\"c\": null}], \"a\": 2} ]";
        let (places, twice) = places(text);
        assert_eq!(Lines::new(text).line_column(places["[0].b[1].c"]), (2, 17));
        assert_eq!(&text[places["[0].b[0]"]..][..1], "1");
        assert_eq!(twice.len(), 1);
        assert_eq!(twice[0].0, "[0].a");
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read_to_an_end(text in ".{0,80}|[\\[\\]{}\":,a1\\\\]{0,40}") {
            let _ = places(&text);
        }
    }
}
