//! Whether a text says that a behaviour happened, was prevented, didn't happen, or is only talked about.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// How a text stands to a behaviour that it names. The order is from what weighs most in a report: the status
/// of a technique is that of its best piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// The adversary did it, or the malware can do it.
    Asserted = 0,
    /// Tried, and blocked or failed.
    Prevented = 1,
    /// It did not happen, or nothing shows that it did.
    Negated = 2,
    /// Could, may, might, if.
    Hypothetical = 3,
    /// The defender's own action: advice, detection, mitigation, training.
    Defensive = 4,
    /// A definition or a general statement about threats.
    Generic = 5,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 6] =
        [Status::Asserted, Status::Prevented, Status::Negated, Status::Hypothetical, Status::Defensive, Status::Generic];

    /// The word for it in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Asserted => "asserted",
            Status::Prevented => "prevented",
            Status::Negated => "negated",
            Status::Hypothetical => "hypothetical",
            Status::Defensive => "defensive",
            Status::Generic => "generic",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a status: asserted, prevented, negated, hypothetical, defensive or generic")]
pub struct ParseStatusError(String);

impl FromStr for Status {
    type Err = ParseStatusError;

    fn from_str(text: &str) -> Result<Status, ParseStatusError> {
        Status::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| ParseStatusError(text.chars().take(40).collect()))
    }
}

/// A way of speaking that shows a status.
#[derive(Debug, Clone, Copy)]
struct Cue {
    status: Status,
    /// Words in lower case, one blank between; `*` at the end of a word stands for any ending.
    words: &'static str,
    reach: Reach,
}

/// Where the behaviour stands to the cue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Behind the cue, in the same clause.
    After,
    /// Before the cue, in the same clause.
    Before,
    /// Anywhere in the clause.
    Clause,
    /// Anywhere in the sentence.
    Sentence,
}

const fn cue(status: Status, reach: Reach, words: &'static str) -> Cue {
    Cue { status, words, reach }
}

use Reach::{After, Before, Clause, Sentence};
use Status::{Asserted, Defensive, Generic, Hypothetical, Negated, Prevented};

/// In the order of their strength: the first that applies decides.
const CUES: &[Cue] = &[
    // What looks like a denial or a possibility and is none.
    cue(Asserted, Clause, "not only"),
    cue(Asserted, After, "able to"),
    cue(Asserted, After, "capable of"),
    cue(Asserted, After, "designed to"),
    cue(Asserted, After, "ability to"),
    cue(Asserted, After, "managed to"),
    cue(Asserted, After, "no doubt"),
    cue(Prevented, Clause, "successfully block*"),
    cue(Prevented, After, "fail* to"),
    cue(Prevented, After, "failed attempt* to"),
    cue(Prevented, After, "unsuccessful* attempt*"),
    cue(Prevented, After, "was unable to"),
    cue(Prevented, After, "were unable to"),
    cue(Prevented, After, "tried and failed"),
    cue(Prevented, After, "tried in vain"),
    cue(Prevented, After, "blocked"),
    cue(Prevented, After, "thwart*"),
    cue(Prevented, After, "foiled"),
    cue(Prevented, After, "intercepted"),
    cue(Prevented, After, "prevented"),
    cue(Prevented, Before, "was blocked"),
    cue(Prevented, Before, "were blocked"),
    cue(Prevented, Before, "been blocked"),
    cue(Prevented, Before, "was stopped"),
    cue(Prevented, Before, "were stopped"),
    cue(Prevented, Before, "was prevented"),
    cue(Prevented, Before, "were prevented"),
    cue(Prevented, Before, "thwarted"),
    cue(Prevented, Before, "foiled"),
    cue(Prevented, Before, "was quarantined"),
    cue(Prevented, Before, "were quarantined"),
    cue(Prevented, Before, "without success"),
    cue(Prevented, Before, "unsuccessful*"),
    cue(Prevented, Before, "failed"),
    cue(Prevented, Before, "did not succeed"),
    cue(Negated, After, "no evidence"),
    cue(Negated, After, "no indication*"),
    cue(Negated, After, "no sign*"),
    cue(Negated, After, "no trace*"),
    cue(Negated, After, "did not"),
    cue(Negated, After, "didn t"),
    cue(Negated, After, "does not"),
    cue(Negated, After, "doesn t"),
    cue(Negated, After, "do not"),
    cue(Negated, After, "not observe*"),
    cue(Negated, After, "not find"),
    cue(Negated, After, "not see*"),
    cue(Negated, After, "was not"),
    cue(Negated, After, "were not"),
    cue(Negated, After, "has not"),
    cue(Negated, After, "have not"),
    cue(Negated, After, "had not"),
    cue(Negated, After, "never"),
    cue(Negated, After, "neither"),
    cue(Negated, After, "refute*"),
    cue(Negated, After, "denie*"),
    cue(Negated, After, "rule* out"),
    cue(Negated, After, "without"),
    cue(Negated, After, "instead of"),
    cue(Negated, After, "rather than"),
    cue(Negated, Before, "was not observed"),
    cue(Negated, Before, "were not observed"),
    cue(Negated, Before, "did not occur"),
    cue(Negated, Before, "not found"),
    cue(Negated, Before, "ruled out"),
    cue(Defensive, Sentence, "we recommend"),
    cue(Defensive, Sentence, "is recommended"),
    cue(Defensive, Sentence, "are advised"),
    cue(Defensive, Sentence, "is advised"),
    cue(Defensive, Sentence, "are encouraged"),
    cue(Defensive, Sentence, "are urged"),
    cue(Defensive, Sentence, "best practice*"),
    cue(Defensive, Sentence, "organizations should"),
    cue(Defensive, Sentence, "organisations should"),
    cue(Defensive, Sentence, "users should"),
    cue(Defensive, Sentence, "administrators should"),
    cue(Defensive, Sentence, "defenders should"),
    cue(Defensive, Sentence, "should be"),
    cue(Defensive, After, "protect* against"),
    cue(Defensive, After, "protect* from"),
    cue(Defensive, After, "defend* against"),
    cue(Defensive, After, "detection* for"),
    cue(Defensive, After, "to detect"),
    cue(Defensive, After, "to prevent"),
    cue(Defensive, After, "to mitigate"),
    cue(Defensive, After, "help* prevent"),
    cue(Defensive, After, "hunt* for"),
    cue(Defensive, After, "monitor* for"),
    cue(Defensive, After, "alert* on"),
    cue(Defensive, After, "beware of"),
    cue(Defensive, After, "be wary of"),
    cue(Hypothetical, Clause, "may"),
    cue(Hypothetical, Clause, "might"),
    cue(Hypothetical, Clause, "could"),
    cue(Hypothetical, Clause, "would allow"),
    cue(Hypothetical, Clause, "would enable"),
    cue(Hypothetical, Clause, "potentially"),
    cue(Hypothetical, Clause, "possibly"),
    cue(Hypothetical, Clause, "perhaps"),
    cue(Hypothetical, Clause, "allegedly"),
    cue(Hypothetical, After, "in theory"),
    cue(Hypothetical, After, "proof of concept"),
    cue(Hypothetical, After, "if an attacker"),
    cue(Hypothetical, After, "if the attacker"),
    cue(Hypothetical, After, "suspected of"),
    cue(Generic, Sentence, "cybercriminals often"),
    cue(Generic, Sentence, "attackers often"),
    cue(Generic, Sentence, "threat actors often"),
    cue(Generic, Sentence, "attackers can"),
    cue(Generic, Sentence, "attacker can"),
    cue(Generic, Sentence, "adversaries can"),
    cue(Generic, Sentence, "adversaries may"),
    cue(Generic, Sentence, "criminals use"),
    cue(Generic, Sentence, "attackers use"),
    cue(Generic, Sentence, "commonly used"),
    cue(Generic, Sentence, "commonly use"),
    cue(Generic, Sentence, "is a type of"),
    cue(Generic, Sentence, "is a form of"),
    cue(Generic, Sentence, "is a technique"),
    cue(Generic, Sentence, "in general"),
    cue(Generic, Sentence, "in recent years"),
    cue(Generic, Sentence, "one of the most common"),
    cue(Generic, Sentence, "most common"),
    cue(Generic, Sentence, "more and more"),
];

/// Words of a heading under which everything is the defender's.
const DEFENSIVE_HEADINGS: [&str; 16] = [
    "mitigation",
    "recommend",
    "detection",
    "prevention",
    "protect",
    "defend",
    "best practice",
    "hardening",
    "countermeasure",
    "remediation",
    "how to stay",
    "what you can do",
    "advice",
    "guidance",
    "staying safe",
    "tips",
];

/// Verbs that begin an instruction to defenders.
const IMPERATIVES: [&str; 44] = [
    "apply",
    "avoid",
    "audit",
    "backup",
    "block",
    "change",
    "check",
    "configure",
    "consider",
    "create",
    "deploy",
    "disable",
    "do",
    "don",
    "educate",
    "enable",
    "enforce",
    "ensure",
    "establish",
    "harden",
    "implement",
    "inspect",
    "install",
    "keep",
    "limit",
    "maintain",
    "make",
    "monitor",
    "never",
    "patch",
    "prevent",
    "prioritize",
    "protect",
    "reduce",
    "remove",
    "require",
    "restrict",
    "review",
    "rotate",
    "segment",
    "train",
    "update",
    "use",
    "verify",
];

/// Words at which a clause ends.
const CLAUSE_ENDS: [&str; 10] = ["but", "however", "although", "though", "whereas", "while", "yet", "nevertheless", "because", "instead"];

/// A word of a sentence, lower-cased, with its place; punctuation that ends a clause is a word of its own.
fn words(sentence: &str) -> Vec<(String, usize)> {
    let mut out = Vec::new();
    let mut start = None;
    for (i, c) in sentence.char_indices().chain([(sentence.len(), ' ')]) {
        if c.is_alphanumeric() {
            start.get_or_insert(i);
        } else {
            if let Some(s) = start.take() {
                out.push((sentence[s..i].to_lowercase(), s));
            }
            if matches!(c, ';' | ':') {
                out.push((";".to_owned(), i));
            }
        }
    }
    out
}

fn is_match(pattern: &str, words: &[(String, usize)]) -> Option<usize> {
    let mut count = 0;
    for wanted in pattern.split(' ') {
        let word = &words.get(count)?.0;
        let fits = match wanted.strip_suffix('*') {
            Some(beginning) => word.starts_with(beginning),
            None => word == wanted,
        };
        if !fits {
            return None;
        }
        count += 1;
    }
    Some(count)
}

/// What a sentence's words say of the status of a behaviour that takes `start..end` (bytes) in it. `heading` is
/// the heading above it. None where no cue speaks: such a sentence asserts.
pub(crate) fn by_cues(sentence: &str, start: usize, end: usize, heading: &str) -> Option<Status> {
    let words = words(sentence);
    let heading = heading.to_lowercase();
    if DEFENSIVE_HEADINGS.iter().any(|h| heading.contains(h)) {
        return Some(Defensive);
    }
    let first = words.first().map(|w| w.0.as_str()).unwrap_or_default();
    let instruction = IMPERATIVES.contains(&first) && !sentence.trim_start().starts_with(char::is_lowercase) && start > 0;
    let from = words.iter().position(|w| w.1 + w.0.len() > start).unwrap_or(words.len());
    let to = words.iter().position(|w| w.1 >= end).unwrap_or(words.len());
    let ends = |w: &(String, usize)| w.0 == ";" || CLAUSE_ENDS.contains(&w.0.as_str());
    let clause_from = words[..from].iter().rposition(ends).map_or(0, |p| p + 1);
    let clause_to = words[to..].iter().position(ends).map_or(words.len(), |p| p + to);
    for cue in CUES {
        let (low, high) = match cue.reach {
            Reach::After => (clause_from, to),
            Reach::Before => (from, clause_to),
            Reach::Clause => (clause_from, clause_to),
            Reach::Sentence => (0, words.len()),
        };
        for at in low..high {
            if let Some(length) = is_match(cue.words, &words[at..high]) {
                // What stands between a cue and a far behaviour is mostly another behaviour.
                let far = cue.reach == Reach::After && from.saturating_sub(at + length) > 12;
                if !far {
                    return (cue.status != Asserted).then_some(cue.status);
                }
            }
        }
    }
    instruction.then_some(Defensive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_inside_the_sentence() {
        let text = "We did not find a web shell but did see lateral movement over RDP.";
        let at = |part: &str| (text.find(part).unwrap(), text.find(part).unwrap() + part.len());
        let (s, e) = at("web shell");
        assert_eq!(by_cues(text, s, e, ""), Some(Negated));
        let (s, e) = at("lateral movement over RDP");
        assert_eq!(by_cues(text, s, e, ""), None);
    }

    #[test]
    fn words_for_it_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.name().parse::<Status>(), Ok(status));
        }
        assert!("done".parse::<Status>().is_err());
    }
}
