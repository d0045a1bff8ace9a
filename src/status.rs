//! Whether a text says that a behaviour happened, was prevented, didn't happen, or is only talked about.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};
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
    /// Words in lower case, one blank between; `*` at the end of a word stands for any ending, `..` for up to four
    /// words. The first is no `..`, and has two letters or more before a `*`.
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

/// Words to look for.
type Words = LazyLock<FxHashSet<&'static str>>;

use Reach::{After, Before, Clause, Sentence};
use Status::{Asserted, Defensive, Generic, Hypothetical, Negated, Prevented};

/// In the order of their strength: the first that applies decides.
const CUES: &[Cue] = &[
    // What looks like a denial, a failure or a possibility and is none.
    cue(Hypothetical, After, "may be able"),
    cue(Hypothetical, After, "might be able"),
    cue(Hypothetical, After, "could be able"),
    cue(Hypothetical, After, "unclear whether"),
    cue(Hypothetical, After, "unclear if"),
    cue(Hypothetical, After, "not known whether"),
    cue(Hypothetical, After, "unknown whether"),
    cue(Hypothetical, After, "not clear whether"),
    cue(Hypothetical, After, "cannot exclude"),
    cue(Hypothetical, After, "cannot rule out"),
    cue(Hypothetical, After, "can not rule out"),
    cue(Hypothetical, After, "could not rule out"),
    cue(Hypothetical, After, "cannot be ruled out"),
    cue(Hypothetical, After, "not be excluded"),
    cue(Hypothetical, Before, "cannot be ruled out"),
    cue(Hypothetical, Before, "cannot be excluded"),
    cue(Hypothetical, Before, "not be ruled out"),
    cue(Hypothetical, Before, "never completed"),
    cue(Hypothetical, Before, "never finished"),
    cue(Hypothetical, Before, "not yet implemented"),
    cue(Hypothetical, Before, "remains unconfirmed"),
    cue(Prevented, After, "before .. could"),
    cue(Prevented, After, "before .. managed to"),
    cue(Prevented, After, "before .. were able to"),
    cue(Prevented, After, "before .. was able to"),
    cue(Prevented, After, "before .. succeed*"),
    cue(Asserted, After, "not only"),
    cue(Asserted, After, "not just"),
    cue(Asserted, After, "able to"),
    cue(Asserted, After, "capable of"),
    cue(Asserted, After, "designed to"),
    cue(Asserted, After, "ability to"),
    cue(Asserted, After, "managed to"),
    cue(Asserted, After, "no doubt"),
    cue(Asserted, After, "not content with"),
    cue(Asserted, After, "nobody noticed"),
    cue(Asserted, After, "no one noticed"),
    cue(Asserted, After, "unnoticed"),
    cue(Asserted, After, "not notice*"),
    cue(Asserted, After, "not stop*"),
    cue(Asserted, After, "not prevent*"),
    cue(Asserted, After, "not block*"),
    cue(Asserted, After, "not detect*"),
    cue(Asserted, After, "not fail to"),
    cue(Asserted, After, "nothing stopped"),
    cue(Asserted, After, "nothing prevented"),
    cue(Asserted, After, "nothing blocked"),
    cue(Asserted, Before, "not detected by"),
    cue(Asserted, Before, "not detected for"),
    cue(Asserted, Before, "not detected until"),
    cue(Asserted, Before, "not caught"),
    cue(Asserted, Before, "not blocked by"),
    cue(Asserted, Before, "not stopped by"),
    cue(Asserted, Before, "not prevented by"),
    cue(Asserted, After, "fail* to detect"),
    cue(Asserted, After, "fail* to notice"),
    cue(Asserted, After, "fail* to stop"),
    cue(Asserted, After, "fail* to prevent"),
    cue(Asserted, After, "fail* to block"),
    cue(Asserted, After, "not named"),
    cue(Asserted, After, "not identified"),
    cue(Asserted, After, "known how"),
    cue(Asserted, After, "known who"),
    cue(Asserted, After, "determine when"),
    cue(Asserted, After, "determine how"),
    cue(Asserted, After, "determine who"),
    cue(Asserted, After, "unclear how"),
    cue(Asserted, After, "unclear who"),
    cue(Asserted, After, "unclear when"),
    cue(Asserted, After, "could be recovered"),
    cue(Asserted, After, "could be seen"),
    cue(Asserted, After, "could be observed"),
    cue(Asserted, After, "show* that it"),
    cue(Asserted, After, "show* that the"),
    cue(Asserted, After, "confirm* that"),
    cue(Asserted, After, "can and do"),
    // Tried, and stopped.
    cue(Prevented, After, "successfully block*"),
    cue(Prevented, After, "successfully stopped"),
    cue(Prevented, After, "successfully prevented"),
    cue(Prevented, After, "fail* to"),
    cue(Prevented, After, "failed attempt*"),
    cue(Prevented, After, "failed bid"),
    cue(Prevented, After, "failed effort*"),
    cue(Prevented, After, "unsuccessful*"),
    cue(Prevented, After, "was unable to"),
    cue(Prevented, After, "were unable to"),
    cue(Prevented, After, "tried and failed"),
    cue(Prevented, After, "in vain"),
    cue(Prevented, After, "blocked"),
    cue(Prevented, After, "thwart*"),
    cue(Prevented, After, "foil*"),
    cue(Prevented, After, "intercepted"),
    cue(Prevented, After, "quarantined"),
    cue(Prevented, After, "averted"),
    cue(Prevented, After, "repelled"),
    cue(Prevented, After, "refused"),
    cue(Prevented, After, "detected and removed"),
    cue(Prevented, After, "detected and blocked"),
    cue(Prevented, After, "detected and stopped"),
    cue(Prevented, After, "prevented"),
    cue(Prevented, After, "could not"),
    cue(Prevented, After, "couldn t"),
    cue(Prevented, After, "stopped .. from"),
    cue(Prevented, After, "kept .. from"),
    cue(Prevented, Clause, "kept .. from"),
    cue(Prevented, Clause, "stopped .. from"),
    cue(Prevented, Clause, "prevented .. from"),
    cue(Prevented, Clause, "frustrated by"),
    cue(Prevented, Clause, "denied by"),
    cue(Prevented, Clause, "rejected by"),
    cue(Prevented, Clause, "refused by"),
    cue(Prevented, Clause, "blocked by"),
    cue(Prevented, Clause, "stopped by"),
    cue(Prevented, Clause, "halted by"),
    cue(Prevented, Clause, "thwarted by"),
    cue(Prevented, After, "disrupted"),
    cue(Prevented, After, "stopped an attempt*"),
    cue(Prevented, After, "halted"),
    cue(Prevented, After, "repuls*"),
    cue(Prevented, After, "caught .. trying"),
    cue(Prevented, After, "caught .. attempting"),
    cue(Prevented, After, "fended off"),
    cue(Prevented, After, "warded off"),
    cue(Prevented, After, "stymied"),
    cue(Prevented, Before, "which .. blocked"),
    cue(Prevented, Before, "which .. prevented"),
    cue(Prevented, Before, "which .. rejected"),
    cue(Prevented, Before, "which .. stopped"),
    cue(Prevented, Before, "which .. refused"),
    cue(Prevented, Before, "would not let"),
    cue(Prevented, Before, "turned it away"),
    cue(Prevented, Before, "turned them away"),
    cue(Prevented, Before, "had been patched"),
    cue(Prevented, Before, "to no effect"),
    cue(Prevented, Before, "with no success"),
    cue(Prevented, Before, "no success"),
    cue(Prevented, Before, "got nowhere"),
    cue(Prevented, Before, "came to naught"),
    cue(Prevented, Before, "never started"),
    cue(Prevented, Before, "never reached"),
    cue(Prevented, Before, "not succeed"),
    cue(Prevented, Before, "came too late"),
    cue(Prevented, Sentence, "before any"),
    cue(Prevented, Sentence, "before it could"),
    cue(Prevented, Sentence, "before they could"),
    cue(Prevented, Sentence, "before anyone"),
    cue(Prevented, Sentence, "before execution"),
    cue(Prevented, Sentence, "before delivery"),
    cue(Prevented, Sentence, "in time to stop"),
    cue(Prevented, Sentence, "in time to prevent"),
    cue(Prevented, Before, "failed because"),
    cue(Prevented, Before, "failed since"),
    cue(Prevented, Before, "failed as"),
    cue(Prevented, Before, "failed when"),
    cue(Prevented, Before, "failed thanks"),
    cue(Prevented, Before, "failed after"),
    cue(Prevented, Before, "failed to start"),
    cue(Prevented, Before, "attempt* failed"),
    cue(Prevented, Before, "and failed"),
    cue(Prevented, Before, "but failed"),
    cue(Prevented, Before, "on startup"),
    cue(Prevented, Before, "aborted"),
    cue(Prevented, Before, "abort on"),
    cue(Prevented, Before, "almost paid"),
    cue(Prevented, Before, "accessdenied"),
    cue(Prevented, Before, "access denied"),
    cue(Prevented, Before, "was cut"),
    cue(Prevented, Before, "marked as spam"),
    cue(Prevented, Before, "is blocked"),
    cue(Prevented, Before, "are blocked"),
    cue(Prevented, Before, "was detected and"),
    cue(Prevented, Before, "were detected and"),
    cue(Prevented, Before, "without success"),
    cue(Prevented, Before, "to no avail"),
    cue(Prevented, Before, "unsuccessful*"),
    cue(Prevented, Before, "did not succeed"),
    cue(Prevented, Before, "didn t succeed"),
    cue(Prevented, Before, "never ran"),
    cue(Prevented, Before, "never executed"),
    cue(Prevented, Before, "never succeeded"),
    cue(Prevented, Before, "blocked"),
    cue(Prevented, Before, "thwarted"),
    cue(Prevented, Before, "foiled"),
    cue(Prevented, Before, "came to nothing"),
    cue(Prevented, Before, "was stopped"),
    cue(Prevented, Before, "was prevented"),
    cue(Prevented, Before, "was halted"),
    cue(Prevented, Before, "was intercepted"),
    cue(Prevented, Before, "was refused"),
    cue(Prevented, Before, "was denied"),
    cue(Prevented, Before, "was rejected"),
    cue(Prevented, Before, "was quarantined"),
    cue(Prevented, Before, "was averted"),
    cue(Prevented, Before, "was frustrated"),
    cue(Prevented, Before, "was repelled"),
    cue(Prevented, Before, "was cut off"),
    cue(Prevented, Before, "was taken down"),
    cue(Prevented, Before, "were stopped"),
    cue(Prevented, Before, "were prevented"),
    cue(Prevented, Before, "were halted"),
    cue(Prevented, Before, "were intercepted"),
    cue(Prevented, Before, "were refused"),
    cue(Prevented, Before, "were denied"),
    cue(Prevented, Before, "were rejected"),
    cue(Prevented, Before, "were quarantined"),
    cue(Prevented, Before, "were averted"),
    cue(Prevented, Before, "were frustrated"),
    cue(Prevented, Before, "were repelled"),
    cue(Prevented, Before, "were cut off"),
    cue(Prevented, Before, "were taken down"),
    cue(Prevented, Before, "been stopped"),
    cue(Prevented, Before, "been prevented"),
    cue(Prevented, Before, "been halted"),
    cue(Prevented, Before, "been intercepted"),
    cue(Prevented, Before, "been refused"),
    cue(Prevented, Before, "been denied"),
    cue(Prevented, Before, "been rejected"),
    cue(Prevented, Before, "been quarantined"),
    cue(Prevented, Before, "been averted"),
    cue(Prevented, Before, "been frustrated"),
    cue(Prevented, Before, "been repelled"),
    cue(Prevented, Before, "been cut off"),
    cue(Prevented, Before, "been taken down"),
    cue(Prevented, Before, "got stopped"),
    cue(Prevented, Before, "got prevented"),
    cue(Prevented, Before, "got halted"),
    cue(Prevented, Before, "got intercepted"),
    cue(Prevented, Before, "got refused"),
    cue(Prevented, Before, "got denied"),
    cue(Prevented, Before, "got rejected"),
    cue(Prevented, Before, "got quarantined"),
    cue(Prevented, Before, "got averted"),
    cue(Prevented, Before, "got frustrated"),
    cue(Prevented, Before, "got repelled"),
    cue(Prevented, Before, "got cut off"),
    cue(Prevented, Before, "got taken down"),
    // It did not happen.
    cue(Negated, Before, "there is no"),
    cue(Negated, Before, "there was no"),
    cue(Negated, Before, "there were no"),
    cue(Negated, Before, "there are no"),
    cue(Negated, Before, "there s no"),
    cue(Negated, Before, "there has been no"),
    cue(Negated, Before, "there isn t"),
    cue(Negated, Before, "found no"),
    cue(Negated, Before, "saw no"),
    cue(Negated, Before, "see no"),
    cue(Negated, Before, "seen no"),
    cue(Negated, Before, "made no"),
    cue(Negated, Before, "left no"),
    cue(Negated, Before, "shows no"),
    cue(Negated, Before, "show no"),
    cue(Negated, Before, "no .. seen"),
    cue(Negated, Before, "no .. found"),
    cue(Negated, Before, "no .. observed"),
    cue(Negated, Before, "no .. reported"),
    cue(Negated, Before, "no .. was"),
    cue(Negated, Before, "no .. were"),
    cue(Negated, Before, "no .. has been"),
    cue(Negated, Before, "no .. have been"),
    cue(Negated, Before, "no .. took place"),
    cue(Negated, After, "no evidence"),
    cue(Negated, After, "no indication*"),
    cue(Negated, After, "no sign*"),
    cue(Negated, After, "no trace*"),
    cue(Negated, After, "no proof"),
    cue(Negated, After, "no attempt"),
    cue(Negated, After, "no point"),
    cue(Negated, After, "did not"),
    cue(Negated, After, "didn t"),
    cue(Negated, After, "does not"),
    cue(Negated, After, "doesn t"),
    cue(Negated, After, "do not"),
    cue(Negated, After, "don t"),
    cue(Negated, After, "not observe*"),
    cue(Negated, After, "not find"),
    cue(Negated, After, "not see*"),
    cue(Negated, After, "not seen"),
    cue(Negated, After, "was not"),
    cue(Negated, After, "were not"),
    cue(Negated, After, "wasn t"),
    cue(Negated, After, "weren t"),
    cue(Negated, After, "has not"),
    cue(Negated, After, "have not"),
    cue(Negated, After, "hasn t"),
    cue(Negated, After, "haven t"),
    cue(Negated, After, "had not"),
    cue(Negated, After, "never"),
    cue(Negated, After, "neither"),
    cue(Negated, After, "nobody"),
    cue(Negated, After, "no one"),
    cue(Negated, After, "none of"),
    cue(Negated, After, "refut*"),
    cue(Negated, After, "denied claims"),
    cue(Negated, After, "denied that"),
    cue(Negated, After, "denied .. that"),
    cue(Negated, After, "denied having"),
    cue(Negated, After, "denies that"),
    cue(Negated, After, "denies having"),
    cue(Negated, After, "deny that"),
    cue(Negated, After, "rule* out"),
    cue(Negated, After, "lack*"),
    cue(Negated, After, "without"),
    cue(Negated, After, "instead of"),
    cue(Negated, After, "rather than"),
    cue(Negated, After, "absence of"),
    cue(Negated, After, "free of"),
    cue(Negated, After, "contrary to"),
    cue(Negated, Before, "was not observed"),
    cue(Negated, Before, "were not observed"),
    cue(Negated, Before, "was not found"),
    cue(Negated, Before, "were not found"),
    cue(Negated, Before, "did not occur"),
    cue(Negated, Before, "did not happen"),
    cue(Negated, Before, "did not take place"),
    cue(Negated, Before, "not found"),
    cue(Negated, Before, "not seen"),
    cue(Negated, Before, "not observed"),
    cue(Negated, Before, "not detected"),
    cue(Negated, Before, "ruled out"),
    cue(Negated, Before, "is false"),
    cue(Negated, Before, "are false"),
    cue(Negated, Before, "was false"),
    cue(Negated, Before, "is untrue"),
    cue(Negated, Before, "was untrue"),
    cue(Negated, Before, "not true"),
    cue(Negated, Before, "not borne out"),
    cue(Negated, Before, "turned out to be"),
    cue(Negated, Before, "turned out not"),
    cue(Negated, Before, "is absent"),
    cue(Negated, Before, "are absent"),
    cue(Negated, Before, "was absent"),
    cue(Negated, Before, "were absent"),
    cue(Negated, Before, "is missing from"),
    cue(Negated, Before, "came back empty"),
    cue(Negated, Before, "came up empty"),
    cue(Negated, Before, "found none"),
    cue(Negated, Before, "found nothing"),
    cue(Negated, Before, "turned up nothing"),
    cue(Negated, After, "nothing"),
    cue(Negated, After, "cannot"),
    cue(Negated, After, "can not"),
    cue(Negated, After, "unlike"),
    cue(Negated, After, "nor"),
    cue(Negated, After, "none"),
    cue(Negated, After, "stopped short of"),
    cue(Negated, After, "refrain* from"),
    cue(Negated, After, "dismissed"),
    cue(Negated, After, "disputed"),
    cue(Negated, After, "debunked"),
    cue(Negated, After, "disprove*"),
    cue(Negated, After, "rejected .. claim*"),
    cue(Negated, After, "rejected .. allegation*"),
    cue(Negated, After, "rejected .. report*"),
    cue(Negated, After, "denied .. allegation*"),
    cue(Negated, After, "denied .. report*"),
    cue(Negated, After, "deny"),
    cue(Negated, After, "far from"),
    cue(Negated, After, "hardly any"),
    cue(Negated, After, "not a single"),
    cue(Negated, After, "no case"),
    cue(Negated, After, "no instance"),
    cue(Negated, After, "omits"),
    cue(Negated, After, "skips"),
    cue(Negated, Sentence, "false positive*"),
    cue(Negated, Sentence, "false alarm*"),
    cue(Negated, Before, "is unfounded"),
    cue(Negated, Before, "are unfounded"),
    cue(Negated, Before, "were unfounded"),
    cue(Negated, Before, "unfounded"),
    cue(Negated, Before, "baseless"),
    cue(Negated, Before, "incorrect"),
    cue(Negated, Before, "disproved"),
    cue(Negated, Before, "disproven"),
    cue(Negated, Before, "debunked"),
    cue(Negated, Before, "a hoax"),
    cue(Negated, Before, "unaltered"),
    cue(Negated, Before, "untouched"),
    cue(Negated, Before, "intact"),
    cue(Negated, Before, "unaffected"),
    cue(Negated, Before, "unchanged"),
    cue(Negated, Before, "not implemented"),
    cue(Negated, Before, "inactive"),
    cue(Negated, Before, "ruled out"),
    cue(Negated, Before, "never happened"),
    cue(Negated, Before, "never took place"),
    cue(Negated, Before, "never materiali*"),
    cue(Negated, Before, "did not materiali*"),
    cue(Negated, Before, "no such"),
    // What defenders do and advise.
    cue(Defensive, Clause, "we recommend"),
    cue(Defensive, Clause, "recommend*"),
    cue(Defensive, Clause, "advised to"),
    cue(Defensive, Clause, "advise* .. to"),
    cue(Defensive, Clause, "encouraged to"),
    cue(Defensive, Clause, "urge*"),
    cue(Defensive, Clause, "best practice*"),
    cue(Defensive, Clause, "organizations should"),
    cue(Defensive, Clause, "organisations should"),
    cue(Defensive, Clause, "companies should"),
    cue(Defensive, Clause, "customers should"),
    cue(Defensive, Clause, "users should"),
    cue(Defensive, Clause, "administrators should"),
    cue(Defensive, Clause, "defenders should"),
    cue(Defensive, Clause, "you should"),
    cue(Defensive, Clause, "teams should"),
    cue(Defensive, Clause, "should be"),
    cue(Defensive, Clause, "should consider"),
    cue(Defensive, After, "make it harder to"),
    cue(Defensive, After, "makes it harder to"),
    cue(Defensive, After, "to detect"),
    cue(Defensive, After, "help to prevent"),
    cue(Defensive, After, "helps to prevent"),
    cue(Defensive, After, "to recognise"),
    cue(Defensive, After, "to recognize"),
    cue(Defensive, After, "to stop"),
    cue(Defensive, After, "please check whether"),
    cue(Defensive, After, "an exercise"),
    cue(Defensive, After, "during the exercise"),
    cue(Defensive, After, "in the exercise"),
    cue(Defensive, After, "in order to prevent"),
    cue(Defensive, After, "protect* against"),
    cue(Defensive, After, "protect* from"),
    cue(Defensive, After, "defend* against"),
    cue(Defensive, After, "guard* against"),
    cue(Defensive, After, "detection* for"),
    cue(Defensive, After, "detection* of"),
    cue(Defensive, After, "rule* for"),
    cue(Defensive, After, "rule .. alert* on"),
    cue(Defensive, After, "alert* on"),
    cue(Defensive, After, "alert* for"),
    cue(Defensive, After, "to mitigate"),
    cue(Defensive, After, "help* prevent"),
    cue(Defensive, After, "help* detect"),
    cue(Defensive, After, "hunt* for"),
    cue(Defensive, After, "monitor for"),
    cue(Defensive, After, "monitoring for"),
    cue(Defensive, After, "watch for"),
    cue(Defensive, After, "on the lookout"),
    cue(Defensive, After, "swept for"),
    cue(Defensive, After, "sweep for"),
    cue(Defensive, After, "beware of"),
    cue(Defensive, After, "wary of"),
    cue(Defensive, After, "aware of"),
    cue(Defensive, After, "meant to spot"),
    cue(Defensive, After, "meant to detect"),
    cue(Defensive, After, "meant to catch"),
    cue(Defensive, After, "red team"),
    cue(Defensive, After, "purple team"),
    cue(Defensive, After, "tabletop exercise"),
    cue(Defensive, After, "penetration test*"),
    cue(Defensive, After, "containment measure"),
    cue(Defensive, Before, "alert on"),
    cue(Defensive, Before, "monitor for"),
    cue(Defensive, Before, "keep file integrity"),
    cue(Defensive, After, "mitigat*"),
    cue(Defensive, After, "defen* from"),
    cue(Defensive, After, "resistant to"),
    cue(Defensive, After, "immune to"),
    cue(Defensive, After, "shield* against"),
    cue(Defensive, After, "shield* from"),
    cue(Defensive, After, "lookout for"),
    cue(Defensive, After, "vigilant"),
    cue(Defensive, After, "training on"),
    cue(Defensive, After, "awareness of"),
    cue(Defensive, After, "recover* from"),
    cue(Defensive, After, "block* any"),
    cue(Defensive, After, "alerted on"),
    cue(Defensive, After, "alert when"),
    cue(Defensive, After, "alerts when"),
    cue(Defensive, Clause, "should"),
    cue(Defensive, Clause, "now requires"),
    cue(Defensive, Clause, "now require"),
    cue(Defensive, Clause, "now requiring"),
    cue(Defensive, Clause, "mandatory"),
    cue(Defensive, Clause, "can be detected"),
    cue(Defensive, Clause, "can be mitigated"),
    cue(Defensive, Clause, "can be prevented"),
    cue(Defensive, Clause, "can be blocked"),
    cue(Defensive, Clause, "mitigated by"),
    cue(Defensive, Clause, "in our lab"),
    cue(Defensive, Clause, "in a lab"),
    cue(Defensive, Clause, "detection rule*"),
    cue(Defensive, Clause, "sigma rule*"),
    cue(Defensive, Clause, "yara"),
    cue(Defensive, Clause, "snort"),
    cue(Defensive, Clause, "signature for"),
    cue(Defensive, Clause, "signatures for"),
    cue(Defensive, Clause, "as a precaution"),
    cue(Defensive, Clause, "hardened"),
    cue(Defensive, Clause, "remediat*"),
    // What could be.
    cue(Hypothetical, After, "may"),
    cue(Hypothetical, After, "potentially"),
    cue(Hypothetical, After, "investigat* whether"),
    cue(Hypothetical, After, "there is a possibility"),
    cue(Hypothetical, After, "if the account"),
    cue(Hypothetical, After, "if they got"),
    cue(Hypothetical, After, "will move"),
    cue(Hypothetical, After, "might"),
    cue(Hypothetical, After, "could"),
    cue(Hypothetical, After, "would have"),
    cue(Hypothetical, After, "would allow"),
    cue(Hypothetical, After, "would let"),
    cue(Hypothetical, After, "would enable"),
    cue(Hypothetical, After, "would give"),
    cue(Hypothetical, After, "would be able"),
    cue(Hypothetical, After, "would be in"),
    cue(Hypothetical, After, "would be open"),
    cue(Hypothetical, After, "possibly"),
    cue(Hypothetical, After, "possible that"),
    cue(Hypothetical, After, "perhaps"),
    cue(Hypothetical, After, "probably"),
    cue(Hypothetical, After, "presumably"),
    cue(Hypothetical, After, "allegedly"),
    cue(Hypothetical, After, "alleged"),
    cue(Hypothetical, After, "reportedly plan*"),
    cue(Hypothetical, After, "plan to"),
    cue(Hypothetical, After, "plans to"),
    cue(Hypothetical, After, "planned to"),
    cue(Hypothetical, After, "planning to"),
    cue(Hypothetical, After, "intend* to"),
    cue(Hypothetical, After, "in theory"),
    cue(Hypothetical, After, "theory is"),
    cue(Hypothetical, After, "theoretically"),
    cue(Hypothetical, After, "hypothetical*"),
    cue(Hypothetical, After, "if an attacker"),
    cue(Hypothetical, After, "if the attacker"),
    cue(Hypothetical, After, "if attackers"),
    cue(Hypothetical, After, "suspected of"),
    cue(Hypothetical, After, "suspect* that"),
    cue(Hypothetical, After, "unconfirmed"),
    cue(Hypothetical, After, "assume that"),
    cue(Hypothetical, After, "proof of concept"),
    cue(Hypothetical, After, "should an attacker"),
    cue(Hypothetical, Before, "may have"),
    cue(Hypothetical, Before, "might have"),
    cue(Hypothetical, Before, "could have"),
    cue(Hypothetical, Before, "would have"),
    cue(Hypothetical, Before, "is possible"),
    cue(Hypothetical, Before, "are possible"),
    cue(Hypothetical, Before, "is unconfirmed"),
    cue(Hypothetical, Before, "cannot be confirmed"),
    cue(Hypothetical, Before, "remains unclear"),
    cue(Hypothetical, After, "threaten* to"),
    cue(Hypothetical, After, "vow* to"),
    cue(Hypothetical, After, "fear* that"),
    cue(Hypothetical, After, "concern* that"),
    cue(Hypothetical, After, "risk of"),
    cue(Hypothetical, After, "risk that"),
    cue(Hypothetical, After, "danger of"),
    cue(Hypothetical, After, "open the door"),
    cue(Hypothetical, After, "opens the door"),
    cue(Hypothetical, After, "be open to"),
    cue(Hypothetical, After, "vulnerable to"),
    cue(Hypothetical, After, "susceptible to"),
    cue(Hypothetical, After, "pave* the way"),
    cue(Hypothetical, After, "wanted to"),
    cue(Hypothetical, After, "hoped to"),
    cue(Hypothetical, After, "likely to"),
    cue(Hypothetical, After, "expected to"),
    cue(Hypothetical, After, "claim* to have"),
    cue(Hypothetical, After, "speculat*"),
    cue(Hypothetical, After, "rumou*"),
    cue(Hypothetical, After, "scenario"),
    cue(Hypothetical, After, "unverified"),
    cue(Hypothetical, After, "unproven"),
    cue(Hypothetical, After, "not confirmed"),
    cue(Hypothetical, After, "not been confirmed"),
    cue(Hypothetical, After, "in the event"),
    cue(Hypothetical, After, "if .. would"),
    cue(Hypothetical, After, "had .. would"),
    cue(Hypothetical, After, "were .. to"),
    cue(Hypothetical, After, "consider* the possibility"),
    cue(Hypothetical, After, "conceivabl*"),
    cue(Hypothetical, After, "poised to"),
    cue(Hypothetical, After, "on the verge of"),
    cue(Hypothetical, After, "next step would be"),
    // What is said of threats at large.
    cue(Generic, Clause, "commonly used"),
    cue(Generic, Clause, "commonly use"),
    cue(Generic, Clause, "is a type of"),
    cue(Generic, Clause, "is a form of"),
    cue(Generic, Clause, "is a kind of"),
    cue(Generic, Clause, "is a way to"),
    cue(Generic, Clause, "is a technique"),
    cue(Generic, Clause, "is an attack"),
    cue(Generic, Clause, "are a type of"),
    cue(Generic, Clause, "refers to"),
    cue(Generic, Clause, "refer to"),
    cue(Generic, Clause, "the term"),
    cue(Generic, Clause, "in general"),
    cue(Generic, Clause, "generally speaking"),
    cue(Generic, Clause, "as a rule"),
    cue(Generic, Clause, "nowadays"),
    cue(Generic, Clause, "in recent years"),
    cue(Generic, Clause, "one of the most common"),
    cue(Generic, Clause, "most common"),
    cue(Generic, Clause, "common for"),
    cue(Generic, Clause, "common among"),
    cue(Generic, Clause, "common in"),
    cue(Generic, Clause, "more and more"),
    cue(Generic, Clause, "every year"),
    cue(Generic, Clause, "every day"),
    cue(Generic, Clause, "year over year"),
    cue(Generic, Clause, "on the rise"),
    cue(Generic, Sentence, "survey"),
    cue(Generic, Sentence, "a third of"),
    cue(Generic, Sentence, "half of all"),
    cue(Generic, Sentence, "percent of"),
    cue(Generic, Sentence, "per cent of"),
    cue(Generic, Sentence, "over the previous quarter"),
    cue(Generic, Sentence, "over the previous year"),
    cue(Generic, Sentence, "compared to last year"),
    cue(Generic, Sentence, "according to statistics"),
    cue(Generic, Clause, "means to"),
    cue(Generic, Clause, "is when"),
    cue(Generic, Clause, "occurs when"),
    cue(Generic, Clause, "happens when"),
    cue(Generic, Clause, "works by"),
    cue(Generic, Clause, "on average"),
    cue(Generic, Clause, "of all attacks"),
    cue(Generic, Clause, "of all incidents"),
    cue(Generic, Clause, "of incidents"),
    cue(Generic, Clause, "of breaches"),
    cue(Generic, Clause, "of organizations"),
    cue(Generic, Clause, "of organisations"),
    cue(Generic, Clause, "of respondents"),
    cue(Generic, Clause, "of companies"),
    cue(Generic, Clause, "of cases"),
    cue(Generic, Clause, "widely used"),
    cue(Generic, Clause, "best known"),
    cue(Generic, Clause, "these days"),
    cue(Generic, Clause, "today s"),
    cue(Generic, Clause, "in most cases"),
    cue(Generic, Clause, "type of attack"),
    cue(Generic, Clause, "kind of attack"),
    cue(Generic, Clause, "class of attack*"),
    cue(Generic, Clause, "means that an"),
    cue(Generic, Clause, "one of the oldest"),
    cue(Generic, Clause, "one of the easiest"),
    cue(Generic, Clause, "one of the simplest"),
    cue(Generic, Clause, "per year"),
    cue(Generic, Clause, "rarely"),
];

/// Someone who may be anyone.
#[rustfmt::skip]
static SOMEONE: Words = Words::new(|| FxHashSet::from_iter([
    "attacker", "adversary", "criminal", "intruder", "hacker", "actor", "user", "fraudster",
]));

/// Words of a heading under which everything is the defender's.
#[rustfmt::skip]
const DEFENSIVE_HEADINGS: [&str; 16] = [
    "mitigation", "recommend", "detection", "prevention", "protect", "defend", "best practice", "hardening", "countermeasure",
    "remediation", "how to stay", "what you can do", "advice", "guidance", "staying safe", "tips",
];

/// Verbs that begin an instruction to defenders.
#[rustfmt::skip]
static IMPERATIVES: Words = Words::new(|| FxHashSet::from_iter([
    "apply", "avoid", "audit", "backup", "block", "change", "check", "configure", "consider", "create", "deploy", "disable", "do",
    "don", "educate", "enable", "enforce", "ensure", "establish", "harden", "hunt", "implement", "inspect", "install", "isolate",
    "keep", "limit", "look", "maintain", "make", "monitor", "never", "patch", "please", "prevent", "prioritize", "prioritise",
    "protect", "reduce", "remove", "report", "require", "restrict", "review", "rotate", "search", "segment", "set", "train",
    "treat", "turn", "update", "use", "verify", "watch", "filter", "revoke", "switch", "lock", "replace", "teach", "compare",
    "admit", "allow", "ban", "uninstall", "upgrade", "validate", "scan", "test", "log", "alert", "collect", "investigate",
    "whitelist", "encourage", "regularly", "always", "only", "ask", "remind", "raise", "minimize", "minimise", "store", "revisit",
    "subscribe", "prohibit", "forbid",
]));

/// Verbs of advice that nobody would write of malware.
#[rustfmt::skip]
static ADVICE: Words = Words::new(|| FxHashSet::from_iter([
    "apply", "avoid", "audit", "backup", "compare", "configure", "consider", "educate", "enforce", "ensure", "harden",
    "implement", "limit", "patch", "prioritise", "prioritize", "protect", "reject", "require", "restrict", "review", "revoke",
    "rotate", "segment", "teach", "train", "upgrade", "verify",
]));

/// Words with which a clause begins.
#[rustfmt::skip]
static CLAUSE_STARTS: Words = Words::new(|| FxHashSet::from_iter([
    "but", "however", "although", "though", "whereas", "while", "yet", "nevertheless", "because", "instead", "since", "unless",
    "until", "before", "after", "so", "when", "if",
]));

/// Words that begin a clause behind a comma: a new subject or a conjunction.
#[rustfmt::skip]
static AFTER_COMMA: Words = Words::new(|| FxHashSet::from_iter([
    "the", "a", "an", "it", "they", "he", "she", "we", "our", "this", "these", "there", "so", "and", "but", "which", "who",
    "whose", "where", "then", "its", "their", "another", "nobody", "later", "thus", "as", "for",
]));

/// Verbs of trying: what follows them is prevented where a failure follows.
#[rustfmt::skip]
static TRIES: Words = Words::new(|| FxHashSet::from_iter([
    "tried", "attempted", "attempting", "attempt", "attempts", "sought", "try", "tries", "trying", "bid", "efforts", "effort",
    "wanted",
]));

/// What becomes of an attempt.
#[rustfmt::skip]
static FAILURES: Words = Words::new(|| FxHashSet::from_iter([
    "blocked", "denied", "refused", "rejected", "crashed", "failed", "stopped", "halted", "thwarted", "foiled", "prevented",
    "immutable", "quarantined", "caught", "terminated", "killed", "removed", "dropped", "expelled", "isolated", "unsuccessful",
    "vain", "success", "revoked", "locked", "aborted", "detected",
]));

/// Whoever does it in general, where no article stands before it.
#[rustfmt::skip]
static AT_LARGE: Words = Words::new(|| FxHashSet::from_iter([
    "attackers", "adversaries", "criminals", "cybercriminals", "hackers", "fraudsters", "scammers", "actors", "gangs", "groups",
    "crews", "authors", "intruders", "infostealers", "stealers", "wipers", "trojans", "worms", "botnets", "spammers", "thieves",
    "affiliates", "operators", "malware", "ransomware", "phishers", "spies", "extortionists", "families", "variants", "anyone",
    "whoever", "people",
]));

/// Words that make a group of people a certain one.
#[rustfmt::skip]
static ARTICLES: Words = Words::new(|| FxHashSet::from_iter([
    "the", "these", "those", "its", "their", "our", "his", "her", "this", "that", "two", "three", "four", "five", "several",
    "some", "both", "other", "same", "such", "of",
]));

/// Words for what is done again and again.
#[rustfmt::skip]
static HABITS: Words = Words::new(|| FxHashSet::from_iter([
    "often", "typically", "usually", "increasingly", "commonly", "frequently", "generally", "tend", "tends", "regularly",
    "mostly", "sometimes", "can", "may", "love", "like", "prefer", "use", "abuse", "rely", "always", "routinely", "still",
    "continue", "will", "would", "favour", "favor", "want", "seek",
]));

/// Past tenses that don't end in -ed.
#[rustfmt::skip]
static PASTS: Words = Words::new(|| FxHashSet::from_iter([
    "stole", "broke", "took", "got", "sent", "made", "ran", "went", "left", "put", "found", "had", "were", "did", "was", "began",
    "wrote", "sold", "hid", "brought", "built", "chose", "came", "set", "hit", "gained", "kept", "led", "read", "shut", "reset",
    "spread", "gave", "held", "told",
]));

/// Verbs behind the name of a technique where a text explains it.
#[rustfmt::skip]
static DEFINING: Words = Words::new(|| FxHashSet::from_iter([
    "is", "are", "remains", "remain", "refers", "refer", "means", "has", "have", "works", "work", "can", "describes", "let",
    "lets", "rose", "fell", "grew", "hide", "hides", "compromise", "compromises", "allow", "allows", "enable", "enables",
    "involve", "involves", "consist", "consists", "occurs", "occur", "happens", "happen", "makes", "make", "relies", "rely",
    "gives", "give", "continues", "continue", "exploits", "abuses", "takes", "take", "uses", "use", "starts", "start", "begins",
    "begin", "needs", "need", "helps", "turns", "turn", "comes", "come", "accounted", "accounts", "topped", "tops", "doubled",
    "tripled", "increased", "decreased", "declined", "surged", "affects", "affect", "targets", "cost", "costs", "leads", "lead",
    "provides", "provide", "offers", "poses", "pose", "requires", "require", "aims", "aim", "differs", "stays", "become",
    "becomes", "tends",
]));

/// Whose acts are not the adversary's.
#[rustfmt::skip]
static DEFENDERS: Words = Words::new(|| FxHashSet::from_iter([
    "soc", "team", "researchers", "analysts", "defenders", "responders", "staff", "administrators", "admins", "it", "ciso",
    "police", "vendor", "provider", "investigators", "company", "bank", "hospital", "agency", "university", "ministry", "city",
    "council", "firm", "police", "engineers", "experts", "admin", "government",
]));

/// What defenders do to an adversary's act without making it theirs.
#[rustfmt::skip]
static SEEING: Words = Words::new(|| FxHashSet::from_iter([
    "observed", "saw", "found", "identified", "noticed", "discovered", "detected", "witnessed", "uncovered", "spotted",
    "recovered", "believe", "believed", "assessed", "reported", "confirmed", "attributed",
]));

/// Who acts in an incident.
#[rustfmt::skip]
static ADVERSARIES: Words = Words::new(|| FxHashSet::from_iter([
    "actor", "actors", "attacker", "attackers", "intruder", "intruders", "adversary", "adversaries", "group", "gang", "hackers",
    "malware", "operator", "operators", "crew",
]));

/// What stands between an adversary and the goal.
#[rustfmt::skip]
static TOOLS: Words = Words::new(|| FxHashSet::from_iter([
    "edr", "xdr", "agent", "gateway", "firewall", "filter", "filters", "antivirus", "av", "defender", "policy", "proxy",
    "protection", "rule", "control", "controls", "sensor", "ips", "waf", "mfa", "amsi", "applocker", "smartscreen", "gatekeeper",
    "bank", "soc", "security", "colleague", "staff", "provider", "registrar", "software", "product", "products", "system",
    "solution", "responders", "analyst", "defenders", "police", "authorities", "administrator",
]));

/// What such a thing does.
#[rustfmt::skip]
static STOPS: Words = Words::new(|| FxHashSet::from_iter([
    "stopped", "blocked", "halted", "caught", "terminated", "killed", "quarantined", "removed", "rejected", "refused", "dropped",
    "denied", "prevented", "thwarted", "foiled", "intercepted", "disrupted", "contained", "neutralised", "neutralized",
    "filtered", "stripped", "froze", "repelled", "averted", "deflected",
]));

/// Words behind `no` that make no denial of it.
#[rustfmt::skip]
static NO_OTHER: Words = Words::new(|| FxHashSet::from_iter([
    "longer", "doubt", "matter", "sooner", "fewer", "less", "mfa", "patches", "user", "password", "authentication", "idea",
    "wonder",
]));

/// A word of a sentence, lower-cased, with its place; punctuation that may end a clause is a word of its own.
fn words(sentence: &str) -> Vec<(Cow<'_, str>, usize)> {
    let mut out: Vec<(Cow<'_, str>, usize)> = Vec::new();
    let mut start = None;
    for (i, c) in sentence.char_indices().chain([(sentence.len(), ' ')]) {
        if c.is_alphanumeric() {
            start.get_or_insert(i);
        } else {
            if let Some(s) = start.take() {
                let word = &sentence[s..i];
                let is_lower = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                out.push((if is_lower { Cow::Borrowed(word) } else { Cow::Owned(word.to_lowercase()) }, s));
            }
            match c {
                ';' | ':' => out.push((Cow::Borrowed(";"), i)),
                ',' => out.push((Cow::Borrowed(","), i)),
                _ => {}
            }
        }
    }
    out
}

/// Words between those of a cue that `..` stands for.
const GAP: usize = 4;

/// One of 128 bits for how a word begins: by its first two letters.
fn beginning(word: &str) -> u128 {
    let mut bytes = word.bytes();
    let (first, second) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
    1 << ((usize::from(first) * 31 + usize::from(second) * 7) % 128)
}

/// The beginning that a word of a cue asks for; 0 where it leaves that open.
fn needed(wanted: &str) -> u128 {
    match wanted.strip_suffix('*') {
        // A beginning of one letter leaves the second open.
        Some(start) if start.len() < 2 => 0,
        Some(start) => beginning(start),
        None if wanted == ".." => 0,
        None => beginning(wanted),
    }
}

/// For each cue the beginnings that a sentence must have.
static CUE_BEGINNINGS: LazyLock<Vec<u128>> =
    LazyLock::new(|| CUE_WORDS.iter().map(|words| words.iter().fold(0, |bits, word| bits | needed(word))).collect());

/// The words of every cue.
static CUE_WORDS: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| CUES.iter().map(|cue| cue.words.split(' ').collect()).collect());

/// The cues by the word that they begin with.
struct CueIndex {
    whole: FxHashMap<&'static str, Vec<u16>>,
    /// Those whose first word has any ending, and how such words begin.
    stems: Vec<(&'static str, u16)>,
    stem_beginnings: u128,
}

impl CueIndex {
    /// Adds the cues, by their places, that may begin with a word.
    fn add(&self, word: &str, beginning: u128, to: &mut Vec<u16>) {
        to.extend(self.whole.get(word).into_iter().flatten());
        if beginning & self.stem_beginnings != 0 {
            to.extend(self.stems.iter().filter(|(stem, _)| word.starts_with(stem)).map(|(_, cue)| cue));
        }
    }
}

static CUE_INDEX: LazyLock<CueIndex> = LazyLock::new(|| {
    let mut index = CueIndex { whole: FxHashMap::default(), stems: Vec::new(), stem_beginnings: 0 };
    for (cue, words) in (0..).zip(CUE_WORDS.iter()) {
        match words[0].strip_suffix('*') {
            Some(stem) => {
                index.stems.push((stem, cue));
                index.stem_beginnings |= beginning(stem);
            }
            None => index.whole.entry(words[0]).or_default().push(cue),
        }
    }
    index
});

/// How many words a cue takes at the beginning of `words`.
fn is_match(pattern: &[&str], words: &[(Cow<'_, str>, usize)]) -> Option<usize> {
    let (wanted, rest) = pattern.split_first()?;
    if *wanted == ".." {
        return (0..=GAP.min(words.len())).find_map(|skip| Some(skip + is_match(rest, &words[skip..])?));
    }
    let word = &words.first()?.0;
    let fits = match wanted.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => word == wanted,
    };
    match (fits, rest.is_empty()) {
        (false, _) => None,
        (true, true) => Some(1),
        (true, false) => Some(1 + is_match(rest, &words[1..])?),
    }
}

/// A sentence around a behaviour.
struct Scene<'a> {
    sentence: &'a str,
    words: Vec<(Cow<'a, str>, usize)>,
    /// How each of them begins.
    beginnings: Vec<u128>,
    /// The behaviour's words.
    from: usize,
    to: usize,
    /// The clause's words.
    low: usize,
    high: usize,
}

impl Scene<'_> {
    fn new(sentence: &str, start: usize, end: usize) -> Scene<'_> {
        let all = words(sentence);
        let from = all.iter().position(|w| w.1 + w.0.len() > start).unwrap_or(all.len());
        let to = all.iter().position(|w| w.1 >= end).unwrap_or(all.len()).max(from);
        let (words, from, to) = without_asides(all, from, to);
        let low = (0..=from.min(words.len().saturating_sub(1))).rev().find(|i| begins_clause(&words, *i)).unwrap_or(0);
        let high = (to..words.len()).find(|i| *i > from && begins_clause(&words, *i)).unwrap_or(words.len());
        let beginnings = words.iter().map(|(word, _)| beginning(word)).collect();
        Scene { sentence, words, beginnings, from, to, low, high }
    }

    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", |w| &w.0)
    }

    fn first(&self) -> &str {
        self.word(0)
    }

    /// The status that the first cue which applies stands for.
    fn by_table(&self) -> Option<Status> {
        let mut possible = Vec::new();
        for ((word, _), beginning) in self.words.iter().zip(&self.beginnings) {
            CUE_INDEX.add(word, *beginning, &mut possible);
        }
        possible.sort_unstable();
        possible.dedup();
        // Most cues have a word that the sentence has not: their beginnings tell, all at once.
        let there = self.beginnings.iter().fold(0, |bits, word| bits | word);
        possible.into_iter().map(usize::from).find_map(|at| {
            let needed = CUE_BEGINNINGS[at];
            (needed & there == needed && self.applies(&CUES[at], &CUE_WORDS[at])).then_some(CUES[at].status)
        })
    }

    fn applies(&self, cue: &Cue, words: &[&str]) -> bool {
        let (low, high) = match cue.reach {
            Reach::After => (self.low, self.to),
            Reach::Before => (self.from, self.high),
            Reach::Clause => (self.low, self.high),
            Reach::Sentence => (0, self.words.len()),
        };
        let first = words.first().map_or(0, |word| needed(word));
        (low..high).any(|at| {
            if self.beginnings[at] & first != first {
                return false;
            }
            // What stands between a cue and a far behaviour is mostly another behaviour, and a denial late in a long one
            // is of something else.
            let late = cue.reach == Reach::After && cue.status == Negated && at > self.from + 5;
            let reaches = |n: usize| cue.reach != Reach::After || self.from.saturating_sub(at + n) <= 12;
            !late && !self.is_month(at) && is_match(words, &self.words[at..high]).is_some_and(reaches)
        })
    }

    /// "in May 2019" is no possibility.
    fn is_month(&self, at: usize) -> bool {
        self.word(at) == "may"
            && self.sentence[self.words[at].1..].starts_with('M')
            && (at > 0 || self.word(1).bytes().all(|b| b.is_ascii_digit()))
    }

    /// "tried to ... but was denied": the failure may stand in another clause.
    fn is_failed_attempt(&self) -> bool {
        let tried = (self.low..self.to).find(|i| TRIES.contains(&self.word(*i)));
        tried.is_some_and(|t| (t..self.words.len()).any(|i| FAILURES.contains(&self.word(i))))
    }

    /// "The gateway caught ...": something that guards, then what it does, on either side of the behaviour; or the
    /// behaviour "was ... rejected".
    fn is_stopped(&self) -> bool {
        let is_stop = |i: usize| STOPS.contains(&self.word(i));
        // Files are dropped and processes terminated by malware as well.
        let is_passive_stop = |i: usize| {
            is_stop(i)
                && !matches!(
                    self.word(i),
                    "dropped" | "terminated" | "removed" | "killed" | "stripped" | "contained" | "disrupted" | "filtered"
                )
        };
        let guarded = (self.low..self.to).any(|i| TOOLS.contains(&self.word(i)) && (i + 1..(i + 4).min(self.to)).any(is_stop));
        let passive = (self.from..self.high).any(|i| {
            matches!(self.word(i), "was" | "were" | "been" | "is" | "are" | "got" | "being")
                && (i + 1..(i + 4).min(self.high)).any(is_passive_stop)
        });
        let fails =
            matches!(self.word(self.to), "failed" | "crashed" | "aborted" | "blocked" | "denied" | "refused" | "rejected" | "stopped");
        guarded || passive || fails
    }

    /// "no data was encrypted", "was not encrypted": the word stands before the behaviour, opens it, or follows it.
    fn is_denied(&self) -> bool {
        let no = |i: usize| self.word(i) == "no" && !NO_OTHER.contains(&self.word(i + 1));
        let not = |i: usize| {
            (self.word(i) == "not" && !matches!(self.word(i + 1), "only" | "just" | "even" | "surprisingly"))
                || (self.word(i) == "t" && i > 0 && self.word(i - 1).ends_with('n'))
        };
        let near = self.from.saturating_sub(4).max(self.low)..self.from;
        let done =
            |i: usize| matches!(self.word(i), "was" | "were" | "is" | "are" | "did" | "has" | "have" | "been" | "wasn" | "weren" | "didn");
        let behind = (self.to..(self.to + 3).min(self.high)).any(|i| not(i) && done(i - 1));
        let opens = no(self.low) && self.from - self.low <= 8 || no(self.from);
        opens || near.clone().any(no) || near.clone().any(not) || behind
    }

    /// An instruction: "Restrict ...", "To limit ..., use ...".
    fn is_instruction(&self) -> bool {
        if self.sentence.trim_start().starts_with(char::is_lowercase) {
            return false;
        }
        // A list of what malware can do begins its items with verbs too.
        if self.from == 0 {
            return ADVICE.contains(&self.first()) && self.sentence.trim_end().ends_with('.');
        }
        let imperative = |at: usize| IMPERATIVES.contains(&self.word(at)) && self.word(at + 1) != "of" && self.word(at + 1) != ";";
        let comma = self.words.iter().position(|w| w.0 == ",").filter(|_| matches!(self.first(), "to" | "if" | "where"));
        let number = usize::from(self.first().bytes().all(|b| b.is_ascii_digit()));
        let opens = imperative(number) && self.low == 0 || self.low > 0 && self.word(self.low - 1) == ";" && imperative(self.low);
        opens || comma.is_some_and(|c| imperative(c + 1))
    }

    /// "the intruders abused": someone certain did it.
    fn is_act_of_adversary(&self) -> bool {
        let before = (self.low..self.from).rev().take(2).any(|i| ADVERSARIES.contains(&self.word(i)));
        before && is_past(self.word(self.from))
    }

    /// "The SOC disabled ...", "Our team blocked ... and reset ...".
    fn is_act_of_defender(&self) -> bool {
        let coordinated = self.from > self.low && self.word(self.from - 1) == "and";
        let subject = (self.low..self.from).rev().find(|i| {
            let word = self.word(*i);
            ADVERSARIES.contains(&word) || DEFENDERS.contains(&word)
        });
        let Some(at) = subject.filter(|i| coordinated || self.from - i <= 2) else { return false };
        let verb = self.word(self.from);
        // The department, not the pronoun.
        let pronoun = self.word(at) == "it" && !self.sentence[self.words[at].1..].starts_with("IT");
        DEFENDERS.contains(&self.word(at))
            && !pronoun
            && is_past(verb)
            && !matches!(verb, "was" | "were" | "had")
            && !SEEING.contains(&verb)
    }

    /// "Gangs often ...", "wipers overwrite ...": nobody certain, and no past.
    fn is_at_large(&self) -> bool {
        (self.low..self.from).any(|i| {
            let bare = i == 0 || !(ARTICLES.contains(&self.word(i - 1)) || i > 1 && ARTICLES.contains(&self.word(i - 2)));
            let someone = i > 0 && matches!(self.word(i - 1), "a" | "an" | "any") && SOMEONE.contains(&self.word(i));
            let many = i > 0 && matches!(self.word(i - 1), "many" | "most");
            let named = AT_LARGE.contains(&self.word(i)) && (bare || many);
            if !someone && !named {
                return false;
            }
            let between = i + 1..self.from;
            let habit = between.clone().any(|j| HABITS.contains(&self.word(j)));
            let past = between.clone().any(|j| is_past(self.word(j))) || !habit && is_past(self.word(self.from));
            let perfect = is_match(&["have", "in", "the", "past"], &self.words[i + 1..]).is_some();
            perfect || !past && (habit || between.len() <= 1 || many)
        })
    }

    /// "Phishing remains ...", "A web shell is ...", "What is ...?".
    fn is_definition(&self) -> bool {
        let asks = self.first() == "what" && matches!(self.word(1), "is" | "are") && self.from <= 3;
        let opens = self.from == 0 || self.from == 1 && matches!(self.first(), "a" | "an" | "most" | "many" | "some");
        asks || opens && DEFINING.contains(&self.word(self.to)) && self.to < self.words.len()
    }
}

fn is_past(word: &str) -> bool {
    word.len() > 3 && word.ends_with("ed") || PASTS.contains(&word)
}

/// Whether a clause begins with the word at `at`.
fn begins_clause(words: &[(Cow<'_, str>, usize)], at: usize) -> bool {
    if at == 0 {
        return true;
    }
    match (&*words[at - 1].0, &*words[at].0) {
        (";", _) => true,
        (_, ";") => false,
        (",", word) => AFTER_COMMA.contains(&word) || CLAUSE_STARTS.contains(&word),
        // "so that", "just before": what decides a behaviour's status rarely stands across them.
        (_, word) => CLAUSE_STARTS.contains(&word),
    }
}

/// Leaves out relative clauses between two commas that the behaviour is not in: "the group, which denies it, leaked".
fn without_asides(words: Vec<(Cow<'_, str>, usize)>, from: usize, to: usize) -> (Vec<(Cow<'_, str>, usize)>, usize, usize) {
    let opens = |i: usize| words[i].0 == "," && words.get(i + 1).is_some_and(|w| matches!(&*w.0, "which" | "who" | "whose"));
    let Some(open) = (0..from).rev().find(|i| opens(*i)) else { return (words, from, to) };
    let Some(close) = (open + 1..from).find(|i| words[*i].0 == ",") else { return (words, from, to) };
    let gone = close + 1 - open;
    let kept = words.iter().enumerate().filter(|(i, _)| !(open..=close).contains(i)).map(|(_, w)| w.clone()).collect();
    (kept, from - gone, to - gone)
}

/// What a list or a table of findings says behind a name, as all that its cell holds.
const VERDICTS: &[(Status, &[&str])] = &[
    (
        Negated,
        &[
            "no",
            "none",
            "nil",
            "negative",
            "absent",
            "n/a",
            "not applicable",
            "not seen",
            "not observed",
            "not found",
            "not used",
            "not detected",
            "not present",
            "not identified",
            "not confirmed",
            "no evidence",
            "no evidence found",
            "no findings",
            "nothing found",
            "none found",
            "none seen",
            "none observed",
            "not in use",
            "ruled out",
        ],
    ),
    (Asserted, &["yes", "confirmed", "observed", "seen", "found", "used", "positive", "present", "identified", "successful", "succeeded"]),
    (
        Prevented,
        &["blocked", "prevented", "stopped", "failed", "unsuccessful", "quarantined", "denied", "attempted, blocked", "attempted, failed"],
    ),
    (
        Hypothetical,
        &[
            "possible",
            "possibly",
            "suspected",
            "unclear",
            "unknown",
            "unconfirmed",
            "tbc",
            "to be confirmed",
            "likely",
            "under investigation",
            "maybe",
        ],
    ),
];

/// What holds the cells of a list or a table apart; a hyphen only between blanks.
fn cells(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(['|', '\t', ':', '–', '—', '→', '=', '(', ')', '[', ']']);
    parts.flat_map(|part| part.split(" - ")).flat_map(|part| part.split(" -> "))
}

/// What a list or a table says of a finding that ends at `end` (bytes) of a line: `Keylogging - not seen`, `| T1053.005 | no |`. None
/// where no cell behind it is a verdict and nothing else.
pub(crate) fn verdict(line: &str, end: usize) -> Option<Status> {
    let behind = line.get(end..)?;
    // Every mark that [`cells`] splits at is one of these bytes or not ASCII; most sentences have none.
    if !behind.bytes().any(|b| matches!(b, b'|' | b'\t' | b':' | b'-' | b'=' | b'(' | b')' | b'[' | b']') || !b.is_ascii()) {
        return None;
    }
    // What stands before the first mark is of the finding's own cell.
    let behind = cells(behind).skip(1);
    behind.take(8).find_map(|cell| {
        let cell = cell.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '!' | ',' | ';' | '*' | '_' | '"'));
        VERDICTS.iter().find(|(_, words)| words.iter().any(|word| cell.eq_ignore_ascii_case(word))).map(|(status, _)| *status)
    })
}

/// Where the clauses of a sentence begin, in bytes; the first at 0.
pub(crate) fn clause_starts(sentence: &str) -> Vec<usize> {
    let words = words(sentence);
    let inner = (1..words.len()).filter(|i| begins_clause(&words, *i) && !matches!(&*words[*i].0, "," | ";"));
    std::iter::once(0).chain(inner.map(|i| words[i].1)).collect()
}

/// Whether everything under a heading is the defender's.
pub(crate) fn heads_advice(heading: &str) -> bool {
    let heading = heading.to_lowercase();
    let of_adversary = ["evasion", "evad", "bypass", "anti"].iter().any(|h| heading.contains(h));
    !of_adversary && DEFENSIVE_HEADINGS.iter().any(|h| heading.contains(h))
}

/// What a sentence's words say of the status of a behaviour that takes `start..end` (bytes) in it, under a heading of
/// [advice](heads_advice) or not. None where no cue speaks: such a sentence asserts.
pub(crate) fn by_cues(sentence: &str, start: usize, end: usize, advice: bool) -> Option<Status> {
    let scene = Scene::new(sentence, start, end);
    if scene.is_instruction() || advice && !scene.is_act_of_adversary() || scene.is_act_of_defender() {
        return Some(Defensive);
    }
    let said = scene.by_table();
    let certain = matches!(said, Some(Asserted | Prevented));
    let in_doubt = said == Some(Hypothetical) && scene.is_denied();
    let weak = !certain && !in_doubt;
    if scene.is_failed_attempt() || weak && scene.is_stopped() {
        return Some(Prevented);
    }
    if weak && scene.is_denied() {
        return Some(Negated);
    }
    match said {
        Some(Asserted) => None,
        // "Adversaries can", "attackers may": of everyone, where nothing stronger is said.
        Some(Hypothetical) if scene.is_at_large() && !scene.applies(&cue(Hypothetical, After, "could"), &["could"]) => Some(Generic),
        Some(status) => Some(status),
        None => (scene.is_at_large() || scene.is_definition()).then_some(Generic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_inside_the_sentence() {
        let text = "We did not find a web shell but did see lateral movement over RDP.";
        let at = |part: &str| (text.find(part).unwrap(), text.find(part).unwrap() + part.len());
        let (s, e) = at("web shell");
        assert_eq!(by_cues(text, s, e, false), Some(Negated));
        let (s, e) = at("lateral movement over RDP");
        assert_eq!(by_cues(text, s, e, false), None);
    }

    #[test]
    fn lists_of_findings_have_verdicts() {
        for (line, name, expected) in [
            ("Scheduled task - not seen", "Scheduled task", Some(Negated)),
            ("| T1053.005 | Scheduled Task | no |", "T1053.005", Some(Negated)),
            ("Cobalt Strike: none.", "Cobalt Strike", Some(Negated)),
            ("Kerberoasting (confirmed)", "Kerberoasting", Some(Asserted)),
            ("- LSASS dump — blocked", "LSASS dump", Some(Prevented)),
            ("Web shell\tno", "Web shell", Some(Negated)),
            ("Keylogger = none", "Keylogger", Some(Negated)),
            ("Kerberoasting [no]", "Kerberoasting", Some(Negated)),
            ("Golden ticket – n/a", "Golden ticket", Some(Negated)),
            ("Ransomware → blocked", "Ransomware", Some(Prevented)),
            ("Exfiltration over DNS -> to be confirmed", "Exfiltration over DNS", Some(Hypothetical)),
            ("DNS tunnelling - N/A", "DNS tunnelling", Some(Negated)),
            // A sentence is no verdict, nor is what stands before the name or in its own cell.
            ("Keylogging: we saw none of it", "Keylogging", None),
            ("No: the scheduled task stayed", "scheduled task", None),
            ("A scheduled task was not seen", "scheduled task", None),
            ("anti-no keylogging-no", "keylogging", None),
        ] {
            assert_eq!(verdict(line, line.find(name).unwrap() + name.len()), expected, "{line}");
        }
        assert_eq!(verdict("short", 99), None);
        assert_eq!(verdict("é", 1), None);
    }

    #[test]
    fn every_cue_is_looked_up_by_its_first_word() {
        for (at, words) in CUE_WORDS.iter().enumerate() {
            let first = words[0].trim_end_matches('*');
            let mut found = Vec::new();
            CUE_INDEX.add(first, beginning(first), &mut found);
            assert!(found.contains(&(at as u16)), "{words:?}");
            assert!(words[0] != ".." && (first == words[0] || first.len() >= 2), "{words:?}");
        }
    }

    #[test]
    fn headings_of_advice_are_told_from_those_of_evasion() {
        assert!(heads_advice("Mitigations") && heads_advice("RECOMMENDATIONS FOR DEFENDERS"));
        assert!(!heads_advice("Defense evasion and detection bypass") && !heads_advice("Persistence") && !heads_advice(""));
    }

    #[test]
    fn clauses_begin_at_contrasts_and_new_subjects() {
        let text = "They listed the admins; the proxy cut the upload, but the share was copied.";
        let clauses: Vec<&str> = clause_starts(text).iter().map(|at| &text[*at..]).collect();
        assert_eq!(clauses, [text, "the proxy cut the upload, but the share was copied.", "but the share was copied."]);
        assert_eq!(clause_starts(""), [0]);
        assert_eq!(clause_starts("é, … but ß"), [0, "é, … ".len()]);
    }

    #[test]
    fn words_for_it_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.name().parse::<Status>(), Ok(status));
        }
        assert!("done".parse::<Status>().is_err());
    }
}
