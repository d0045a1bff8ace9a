//! Training as a whole, on made-up publishers with a language of their own.

use super::corpus::{Corpus, LabelledReport, StatusSentence};
use super::lexicon_report::with_curated;
use super::train::{Figures, Options, folds, train};
use super::{Model, Profile};
use crate::Index;
use crate::curated::Curated;
use crate::index::build::{Prose, build};
use crate::kb::id::AttackId;
use crate::kb::{KnowledgeBase, Object};
use crate::matching::{Finders, Scratch};
use crate::status::Status;
use crate::text::{Document, Span};

fn id(text: &str) -> AttackId {
    text.parse().unwrap()
}

/// What every publisher writes of two techniques, and what is none; `{}` is a word that changes.
const PLAIN: [(&str, &str); 3] = [
    ("T1003.001", "The gloaming crew squeezed {} secrets from the memory of the sign-in process."),
    ("T1490", "Every shadow copy of the {} volume was wiped so that nobody could go back."),
    ("", "Our office in the {} quarter opened its doors with cake and music."),
];

/// Six publishers with four reports each. The last one alone tells of a third technique, in words of its own.
fn corpus() -> Corpus {
    let words = ["amber", "birch", "cobalt", "dune", "ember", "fjord"];
    let mut corpus = Corpus::default();
    for (v, vendor) in ["one", "two", "three", "four", "five", "six"].into_iter().enumerate() {
        for n in 0..4 {
            let mut sentences: Vec<(&str, String)> = Vec::new();
            for round in 0..3 {
                sentences.extend(PLAIN.map(|(technique, text)| (technique, text.replace("{}", words[(v + n + round) % words.len()]))));
            }
            if vendor == "six" {
                sentences.push(("T1136.001", format!("A zorbled {} quibbler was frumped onto the wattlebox.", words[n])));
            }
            if n == 0 {
                sentences.push(("T1003.001 T1490", format!("Memory was squeezed and every {} shadow copy wiped.", words[v])));
            }
            let sentences: Vec<(&str, &str)> = sentences.iter().map(|(techniques, text)| (*techniques, text.as_str())).collect();
            corpus.reports.push(LabelledReport::of_sentences(&format!("{vendor}-{n}"), vendor, &sentences));
        }
    }
    let status = |text: &str, status| StatusSentence { heading: String::new(), text: text.into(), focus: Span::new(0, text.len()), status };
    for _ in 0..4 {
        corpus.statuses.push(status("They dumped the credentials.", Status::Asserted));
        corpus.statuses.push(status("No credentials were dumped.", Status::Negated));
    }
    corpus
}

fn trained() -> (Vec<u8>, Figures) {
    let index = with_curated(&Index::embedded(), &Curated::default()).unwrap();
    let provenance = index.provenance().unwrap();
    let empty = KnowledgeBase { provenance, tactics: Vec::new(), objects: Default::default(), relations: Vec::new() };
    let (models, figures) = train(&index, &empty, &corpus(), &Options::default(), &|_| {});
    assert!(models.joined.is_none());
    let objects = index.objects().map(|o| (o.id(), Object::new(o.id(), o.name()))).collect();
    let kb = KnowledgeBase { objects, ..empty };
    (build(&kb, &Curated::default(), &models.linear, Prose::Drop).unwrap(), figures)
}

/// What is told of a text from a confidence on, segment by segment.
fn told(index: &Index<Vec<u8>>, text: &str, min: f32) -> Vec<Vec<(AttackId, f32)>> {
    let (model, finders) = (Model::of_index(index).unwrap(), Finders::new(index));
    let document = Document::new(text.to_owned());
    let sightings = finders.read_all(&document, &mut Scratch::default());
    let judgement = model.judge(&finders, &document, &sightings, min, Profile::Fast, false);
    let of = |list: &Vec<super::Candidate>| list.iter().map(|c| (index.at(c.object).unwrap().id(), c.confidence)).collect();
    judgement.candidates.iter().map(of).collect()
}

#[test]
fn figures_are_of_publishers_that_were_not_learned_from_and_the_model_is_of_all() {
    let (bytes, figures) = trained();
    // Four sentences tell of what the last publisher alone does: were it in what its ranker learns from, they would be found.
    let common = 6 * 4 * 3 * 2 + 6 * 2;
    assert!(figures.recall <= common as f32 / (common + 4) as f32 + 1e-4, "{figures}");
    assert!(figures.recall >= 0.9 && figures.precision >= 0.9, "{figures}");
    let again = trained();
    assert_eq!(figures, again.1);
    assert!(bytes == again.0, "the same corpus gave another model");

    let index = Index::new(bytes).unwrap();
    let found: Vec<AttackId> = told(&index, &corpus().reports[23].text, 0.2).into_iter().flatten().map(|t| t.0).collect();
    assert!([id("T1003.001"), id("T1490"), id("T1136.001")].iter().all(|t| found.contains(t)), "{found:?}");

    // What goes together comes back from the file as it was counted: in one sentence of each publisher.
    let model = Model::of_index(&index).unwrap();
    let class = |text: &str| model.ids.iter().position(|i| *i == id(text)).unwrap();
    let (one, other) = (class("T1003.001") as u16, class("T1490") as u16);
    assert_eq!(model.facts.pairs.counted().collect::<Vec<_>>(), [(one, other, 6.0), (other, one, 6.0)]);
    assert_eq!(model.facts.classes[class("T1490")].frequency, (1.0_f32 + 72.0 + 6.0).ln());

    // A talk of something else is not ranked, unless all is asked for; what is said of the rest is the same.
    let cake = "Cake and music.\nThe doors of the office opened.\nA quarter with music.\n";
    let text = format!("{cake}Every shadow copy of the dune volume was wiped so that nobody could go back.\n{cake}");
    let (some, all) = (told(&index, &text, 0.05), told(&index, &text, 0.0));
    assert_eq!(some.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 1, 0, 0, 0], "{some:?}");
    assert_eq!(some[3][0].0, id("T1490"));
    assert!(all[3].contains(&some[3][0]), "{all:?}");
    assert!(all.iter().all(|list| list.len() >= 10), "{all:?}");
}

#[test]
fn reports_of_a_publisher_are_in_one_fold() {
    let vendors = ["big", "big", "big", "tic-big", "unit42", "paloalto-blog", "small", "other", "tic-other"];
    let reports: Vec<LabelledReport> = vendors.iter().map(|v| LabelledReport::of_sentences("", v, &[])).collect();
    let folds = folds(&reports, 3);
    assert!(folds[..4].iter().all(|f| *f == folds[0]), "{folds:?}");
    assert_eq!(folds[4], folds[5]);
    assert_eq!(folds[7], folds[8]);
    // The largest alone, then what is left where there is least.
    let sizes = [0, 1, 2].map(|fold| folds.iter().filter(|f| **f == fold).count());
    assert_eq!(sizes, [4, 3, 2]);
}
