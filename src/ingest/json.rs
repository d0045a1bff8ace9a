//! JSON and JSON Lines: which string is the narrative.

use serde_json::Value;

use super::{Error, Kind, Options, Part, date};
use crate::text::{Document, MAX_TEXT_BYTES};

/// One object is one part, an array a part for each element.
pub(super) fn read(bytes: &[u8], options: &Options) -> Result<Vec<Part>, Error> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| Error::Damaged { kind: Kind::Json, what: e.to_string() })?;
    match value {
        Value::Array(records) if !records.is_empty() && records.iter().all(Value::is_object) => {
            Ok(records.into_iter().enumerate().map(|(i, record)| part(record, i + 1, "record", options)).collect())
        }
        value => {
            let only = part(value, 1, "", options);
            match only.document {
                Err(error) => Err(error),
                Ok(_) => Ok(vec![only]),
            }
        }
    }
}

/// A part for each line that isn't blank.
pub(super) fn read_lines(bytes: &[u8], options: &Options) -> Result<Vec<Part>, Error> {
    let lines = bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    Ok(lines.map(|(i, line)| record(line, i + 1, options)).collect())
}

/// The part of one line of JSON Lines, `number` from 1. A line that is no record is an error in its place.
pub fn record(line: &[u8], number: usize, options: &Options) -> Part {
    let bad = |what: String| {
        let error = Error::Field(format!("line {number}: {what}"));
        Part { name: None, id: Some(Value::from(number)), record: None, document: Err(error) }
    };
    match serde_json::from_slice(line) {
        Ok(value @ Value::Object(_)) => part(value, number, "line", options),
        Ok(_) => bad("not a JSON object".to_owned()),
        Err(e) => bad(format!("not JSON: {e}")),
    }
}

fn part(mut value: Value, number: usize, what: &str, options: &Options) -> Part {
    let place = if what.is_empty() { String::new() } else { format!("{what} {number}: ") };
    // An input with one record goes by its name where that has no ID.
    let id = take(&mut value, &options.id_field).or_else(|| (!what.is_empty()).then(|| Value::from(number)));
    let title = value.get("title").and_then(Value::as_str).map(str::to_owned);
    let day = look(&value, &options.date_field).and_then(date::day_of_value);
    let field = &options.text_field;
    let document = match take(&mut value, field) {
        Some(Value::String(text)) if text.len() as u64 <= MAX_TEXT_BYTES => Ok(Document::new(text).titled(title).dated(day)),
        Some(Value::String(_)) if place.is_empty() => Err(Error::TooLarge),
        Some(Value::String(_)) => Err(Error::Field(format!("{place}the text is over {} MiB", MAX_TEXT_BYTES >> 20))),
        Some(_) => Err(Error::Field(format!("{place}`{field}` is not a string"))),
        None => Err(Error::Field(format!("{place}no field `{field}` (see --text-field)"))),
    };
    let record = match value {
        Value::Object(rest) if !rest.is_empty() => Some(rest),
        _ => None,
    };
    Part { name: None, id, record, document }
}

/// Takes a value out of JSON by a path: a JSON pointer (RFC 6901) where it begins with `/`; otherwise names joined by
/// dots, where a number leads into an array and a name that has dots itself is found whole.
pub fn take(value: &mut Value, path: &str) -> Option<Value> {
    if let Some(pointer) = path.strip_prefix('/') {
        let steps: Vec<String> = pointer.split('/').map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
        let (last, before) = steps.split_last()?;
        let parent = before.iter().try_fold(value, |value, step| child(value, step))?;
        return remove(parent, last);
    }
    take_dotted(value, path)
}

/// A value in JSON, by a path as [`take`] has it.
fn look<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if path.starts_with('/') {
        return value.pointer(path);
    }
    let whole = match value {
        Value::Object(object) => object.get(path),
        Value::Array(list) => path.parse::<usize>().ok().and_then(|i| list.get(i)),
        _ => return None,
    };
    whole.or_else(|| {
        let (first, rest) = path.split_once('.')?;
        look(look(value, first)?, rest)
    })
}

fn take_dotted(value: &mut Value, path: &str) -> Option<Value> {
    let is_there = match &*value {
        Value::Object(object) => object.contains_key(path),
        Value::Array(list) => path.parse::<usize>().is_ok_and(|i| i < list.len()),
        _ => return None,
    };
    if is_there {
        return remove(value, path);
    }
    let (first, rest) = path.split_once('.')?;
    take_dotted(child(value, first)?, rest)
}

fn child<'v>(value: &'v mut Value, step: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(object) => object.get_mut(step),
        Value::Array(list) => list.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Out of an object it is removed; in an array it leaves null, for the others keep their places.
fn remove(value: &mut Value, step: &str) -> Option<Value> {
    match value {
        Value::Object(object) => object.shift_remove(step),
        Value::Array(list) => list.get_mut(step.parse::<usize>().ok()?).map(Value::take),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_the_text() {
        for (json, path, expected) in [
            (r#"{"text": "a"}"#, "text", Some("a")),
            (r#"{"a": {"b": {"c": "d"}}}"#, "a.b.c", Some("d")),
            (r#"{"a.b": "whole"}"#, "a.b", Some("whole")),
            (r#"{"a": {"b": [{"c": "first"}, {"c": "second"}]}}"#, "a.b.1.c", Some("second")),
            (r#"{"a": {"b": [{"c": "first"}, {"c": "second"}]}}"#, "/a/b/0/c", Some("first")),
            (r#"{"a/b": {"~": "odd"}}"#, "/a~1b/~0", Some("odd")),
            (r#"["one", "two"]"#, "1", Some("two")),
            (r#"{"a": 1}"#, "a.b", None),
            (r#"{"a": [1]}"#, "a.1", None),
            (r#"{"a": [1]}"#, "a.x", None),
        ] {
            let mut value = serde_json::from_str(json).unwrap();
            assert_eq!(look(&value, path).and_then(Value::as_str), expected, "{json} {path}");
            assert_eq!(take(&mut value, path).as_ref().and_then(Value::as_str), expected, "{json} {path}");
        }
    }

    #[test]
    fn records_are_parts() {
        let options = Options::default();
        let one = read(br#"{"text": "T1490", "x": 1, "title": "t"}"#, &options).unwrap();
        assert_eq!((one.len(), one[0].id.clone()), (1, None));
        assert_eq!(one[0].document.as_ref().unwrap().title(), Some("t"));
        let many = read(br#"[{"id": "a", "text": "b"}, {"text": 1}]"#, &options).unwrap();
        assert_eq!(many[0].id, Some(Value::from("a")));
        assert_eq!(many[1].document.as_ref().unwrap_err().to_string(), "record 2: `text` is not a string");
        assert!(matches!(read(b"{", &options), Err(Error::Damaged { .. })));
        assert!(matches!(read(b"[]", &options), Err(Error::Field(_))));
        let dated = read(br#"{"text": "a", "date": "2026-01-31T10:00:00Z"}"#, &options).unwrap();
        assert_eq!(dated[0].document.as_ref().unwrap().date(), Some("2026-01-31"));
        assert!(dated[0].record.as_ref().unwrap().contains_key("date"), "it is passed through all the same");
        let lines = read_lines(b"{\"text\": \"a\"}\n\n{\n", &options).unwrap();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].document.as_ref().unwrap_err().to_string().starts_with("line 3: not JSON"));
    }
}
