//! Which part of a page is the article. Readability's idea: paragraphs vote for the elements around them, links vote
//! against; names of classes and roles say what stands apart.

use super::tree::{Node, Role, Tree};

/// What is written of a page.
pub(super) struct Article {
    /// The element that holds the article.
    pub(super) root: u32,
    /// A main heading that stands outside of it.
    pub(super) heading: Option<u32>,
    /// Nodes that are passed over with all in them.
    pub(super) dropped: Vec<bool>,
}

/// Words in class names and IDs of what stands beside an article.
const APART: [&str; 58] = [
    "nav",
    "navbar",
    "navigation",
    "menu",
    "menubar",
    "submenu",
    "megamenu",
    "breadcrumb",
    "breadcrumbs",
    "cookie",
    "cookies",
    "cookiebar",
    "cookiebanner",
    "consent",
    "gdpr",
    "onetrust",
    "sidebar",
    "share",
    "sharing",
    "sharebar",
    "social",
    "related",
    "recommended",
    "recommendations",
    "newsletter",
    "subscribe",
    "subscription",
    "signup",
    "promo",
    "promotion",
    "advert",
    "advertisement",
    "ads",
    "sponsor",
    "sponsored",
    "comments",
    "commentlist",
    "disqus",
    "footer",
    "pagination",
    "pager",
    "skip",
    "skiplink",
    "toolbar",
    "popup",
    "modal",
    "overlay",
    "login",
    "searchform",
    "searchbox",
    "masthead",
    "noprint",
    "screenreader",
    "trending",
    "popular",
    "teaser",
    "teasers",
    "outbrain",
];

/// Beginnings of headings over lists of other articles.
const APART_HEADINGS: [&str; 14] = [
    "related",
    "recommended",
    "more from",
    "more on",
    "read next",
    "read more",
    "you may also",
    "you might also",
    "share this",
    "popular",
    "latest news",
    "latest posts",
    "trending",
    "most read",
];

/// An element named as standing apart that holds more than this part of all text is not believed.
const BELIEVED_SHARE: f32 = 0.4;
/// An element that a page marks as its main part is taken where it holds this part of the text.
const MAIN_SHARE: f32 = 0.3;
/// Fewer letters than this are no article.
const MIN_ARTICLE: usize = 120;

#[derive(Clone, Copy, Default)]
struct Measure {
    letters: usize,
    linked: usize,
    links: usize,
}

/// Chooses the article of a page.
pub(super) fn choose(tree: &Tree) -> Article {
    let nodes = &tree.nodes;
    let never: Vec<bool> = spread(nodes, |_, node| is_never_seen(node));
    let all = measure(nodes, &never);
    let total = all[0].letters;
    let apart: Vec<bool> = spread(nodes, |i, node| never[i] || stands_apart(nodes, i, node, &all, total));
    let kept = measure(nodes, &apart);
    let root = marked(nodes, &apart, &kept).unwrap_or_else(|| voted(nodes, &apart, &kept));
    if kept[root as usize].letters >= MIN_ARTICLE.min(total / 4) && kept[root as usize].letters > 0 {
        let heading = heading(nodes, &never, root);
        let mut dropped = apart;
        if let Some(heading) = heading {
            // It may stand in a header that is passed over.
            let range = heading as usize..nodes[heading as usize].end as usize;
            dropped[range.clone()].copy_from_slice(&never[range]);
        }
        return Article { root, heading, dropped };
    }
    // All of it looks like trimmings: then it is the page.
    Article { root: 0, heading: None, dropped: never }
}

/// All that is seen.
pub(super) fn all(tree: &Tree) -> Article {
    Article { root: 0, heading: None, dropped: spread(&tree.nodes, |_, node| is_never_seen(node)) }
}

/// A mark for each node: its own or that of an element around it.
fn spread(nodes: &[Node], mut own: impl FnMut(usize, &Node) -> bool) -> Vec<bool> {
    let mut marks = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        marks[i] = (i > 0 && marks[node.parent as usize]) || own(i, node);
    }
    marks
}

fn is_never_seen(node: &Node) -> bool {
    node.hidden
        || matches!(
            node.name,
            "script"
                | "style"
                | "noscript"
                | "template"
                | "iframe"
                | "object"
                | "svg"
                | "canvas"
                | "audio"
                | "video"
                | "select"
                | "option"
                | "textarea"
                | "button"
                | "datalist"
                | "head"
                | "title"
                | "input"
                | "noembed"
                | "noframes"
        )
}

fn measure(nodes: &[Node], dropped: &[bool]) -> Vec<Measure> {
    let mut out = vec![Measure::default(); nodes.len()];
    for i in (0..nodes.len()).rev() {
        if dropped[i] {
            continue;
        }
        if let Some(text) = &nodes[i].text {
            out[i].letters = text.chars().filter(|c| c.is_alphanumeric()).count();
        }
        if nodes[i].name == "a" {
            out[i].linked = out[i].letters;
            out[i].links = 1;
        }
        if i > 0 {
            let (own, parent) = (out[i], &mut out[nodes[i].parent as usize]);
            parent.letters += own.letters;
            parent.linked += own.linked;
            parent.links += own.links;
        }
    }
    out
}

fn stands_apart(nodes: &[Node], i: usize, node: &Node, all: &[Measure], total: usize) -> bool {
    if matches!(node.name, "html" | "body" | "main" | "article" | "") || node.role == Role::Main {
        return false;
    }
    let share = all[i].letters as f32 / total.max(1) as f32;
    if share > BELIEVED_SHARE {
        return false;
    }
    let within_article = || {
        std::iter::successors(Some(node.parent), |at| (*at > 0).then(|| nodes[*at as usize].parent))
            .take(64)
            .any(|at| matches!(nodes[at as usize].name, "article" | "main"))
    };
    match node.name {
        "nav" | "aside" | "dialog" | "search" => return true,
        "header" | "footer" if !within_article() => return true,
        _ => {}
    }
    node.role == Role::Apart || named_apart(node) || lists_others(nodes, i, all)
}

fn named_apart(node: &Node) -> bool {
    let Some(class) = &node.class else { return false };
    // Of `article-with-sidebar` only the word at its end says what the element itself is; short lists are read whole.
    class.split_whitespace().any(|name| {
        let mut words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        let first = words.next();
        let last = words.next_back();
        let prefixed = matches!(first, Some("has" | "with" | "no" | "is" | "js" | "post" | "type" | "page" | "theme"));
        !prefixed && [first, last].into_iter().flatten().any(|w| APART.contains(&w))
    })
}

/// A block of links under a heading such as "Related articles".
fn lists_others(nodes: &[Node], i: usize, all: &[Measure]) -> bool {
    let measure = all[i];
    if !matches!(nodes[i].name, "div" | "section" | "ul" | "p" | "article") || measure.links == 0 || measure.linked * 2 < measure.letters {
        return false;
    }
    let mut first = String::new();
    for node in &nodes[i + 1..(nodes[i].end as usize).min(i + 40)] {
        if let Some(text) = &node.text {
            first.push_str(text.trim());
        }
        if first.len() > 12 {
            break;
        }
    }
    let first = first.to_lowercase();
    APART_HEADINGS.iter().any(|h| first.starts_with(h))
}

/// The element that the page itself marks as its main part.
fn marked(nodes: &[Node], dropped: &[bool], kept: &[Measure]) -> Option<u32> {
    let best = |is: &dyn Fn(&Node) -> bool, within: u32, share: f32| {
        let range = within as usize..nodes[within as usize].end as usize;
        let found = range.filter(|i| !dropped[*i] && is(&nodes[*i])).max_by_key(|i| (kept[*i].letters, usize::MAX - i))?;
        (kept[found].letters as f32 >= share * kept[within as usize].letters as f32).then_some(found as u32)
    };
    let main = best(&|n| n.name == "main" || n.role == Role::Main, 0, MAIN_SHARE);
    let article = best(&|n| n.name == "article", main.unwrap_or(0), 0.6);
    article.or(main)
}

/// The element that the paragraphs vote for.
fn voted(nodes: &[Node], dropped: &[bool], kept: &[Measure]) -> u32 {
    let mut votes = vec![0.0_f32; nodes.len()];
    // Letters that stand in an element directly.
    let mut direct = vec![0_usize; nodes.len()];
    for node in nodes {
        direct[node.parent as usize] += node.text.as_ref().map_or(0, |t| t.trim().len());
    }
    for (i, node) in nodes.iter().enumerate().skip(1) {
        if dropped[i] || !matches!(node.name, "p" | "pre" | "td" | "blockquote" | "li" | "dd" | "div") || kept[i].letters < 25 {
            continue;
        }
        // A div votes where text stands in it directly.
        let own = if node.name == "div" { direct[i] } else { kept[i].letters };
        if own < 25 {
            continue;
        }
        let linked = kept[i].linked as f32 / kept[i].letters as f32;
        let vote = (1.0 + (own as f32 / 100.0).min(3.0)) * (1.0 - linked);
        let mut at = i;
        for weight in [1.0, 0.5, 0.3, 0.2] {
            at = nodes[at].parent as usize;
            votes[at] += vote * weight;
            if at == 0 {
                break;
            }
        }
    }
    let worth = |i: usize| votes[i] * (1.0 - kept[i].linked as f32 / kept[i].letters.max(1) as f32);
    let mut root = (0..nodes.len()).filter(|i| !dropped[*i]).max_by(|a, b| worth(*a).total_cmp(&worth(*b)).then(b.cmp(a))).unwrap_or(0);
    // Sections side by side: the element around them holds much more text than the best of them.
    let prose = |i: usize| kept[i].letters - kept[i].linked;
    while root > 0 {
        let parent = nodes[root].parent as usize;
        if prose(parent) * 100 <= prose(root) * 115 {
            break;
        }
        root = parent;
    }
    root as u32
}

/// The main heading, where it stands before the article and not in it.
fn heading(nodes: &[Node], never: &[bool], root: u32) -> Option<u32> {
    let inside = |i: usize| (root as usize..nodes[root as usize].end as usize).contains(&i);
    let mut all = (0..nodes.len()).filter(|i| nodes[*i].name == "h1" && !never[*i]);
    let first = all.next()?;
    (all.next().is_none() && !inside(first) && first < root as usize).then_some(first as u32)
}

#[cfg(test)]
mod tests {
    use super::super::read;

    const PROSE: &str = "<p>The intruders sent a message with an attachment to three people in accounts, and one of them opened it.</p>\
                         <p>From there they reached the file server, copied what they wanted, and left a note on every screen.</p>";

    #[test]
    fn trimmings_are_left_out() {
        let trimmings = "<div class='cookie-banner'><p>We use cookies to improve your experience, accept them all.</p></div>\
             <nav><ul><li><a href=/>Home</a><li><a href=/b>Products</a></ul></nav>";
        let related =
            "<div class='c-12'><h3>Related articles</h3><ul><li><a href=1>Ten ways to be secure</a><li><a href=2>Buy now</a></ul></div>";
        for page in [
            format!("<body>{trimmings}<main>{PROSE}{related}</main><footer>All rights reserved</footer>"),
            format!(
                "<body class='has-sidebar'><header>{trimmings}</header><div id=x><div>{PROSE}</div></div>{related}<div class=footer>All rights reserved</div>"
            ),
            format!("<body>{trimmings}<div class=page><article class=post>{PROSE}</article><aside>Subscribe now</aside></div>"),
        ] {
            let text = read(&page).unwrap().text().to_owned();
            assert!(text.starts_with("The intruders sent") && text.ends_with("every screen.\n"), "{page}\n{text}");
        }
    }

    #[test]
    fn a_page_of_trimmings_alone_is_read_whole() {
        assert_eq!(read("<nav><a href=a>They ran whoami</a></nav>").unwrap().text(), "They ran whoami\n");
    }

    #[test]
    fn the_heading_before_the_article_belongs_to_it() {
        let page = format!("<header><a href=/>Site</a><h1>Orchard intrusion</h1></header><article>{PROSE}</article>");
        assert!(read(&page).unwrap().text().starts_with("Orchard intrusion\n\nThe intruders"));
    }
}
