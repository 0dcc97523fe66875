//! The timeline: one page in a browser, on which a record is followed.
//!
//! *Owns*: how the story gets into the page. *Does not own*: the page (timeline.html).
//!
//! Invariants
//! 1. The page needs nothing but itself: no network, no other file.
//! 2. No text of a run is markup: it reaches the page as JSON without `<`, and is shown as text.
//!
//! *IO: none*

use serde::Serialize;

use super::story::Story;

const PAGE: &str = include_str!("timeline.html");
/// Rows that a page holds; of a longer run those before and at the failure.
const ROWS_MAX: usize = 50_000;

/// What the page says of the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Head {
    pub(crate) title: String,
    pub(crate) failure: Option<String>,
    pub(crate) replay: String,
}

/// The page of `story`.
pub(crate) fn page(head: &Head, story: &Story) -> String {
    let middle = story.failure();
    let end = (middle + ROWS_MAX / 10).min(story.rows.len());
    let start = end.saturating_sub(ROWS_MAX);
    let data = serde_json::json!({
        "head": head,
        "lanes": story.lanes,
        "left_out": start,
        "rows": story.rows.get(start..end).unwrap_or_default(),
    });
    PAGE.replacen("\"DATA\"", &inert(&data.to_string()), 1)
}

/// JSON that no parser of HTML takes for its own.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::{Head, page};
    use crate::trace::{Line, story};

    #[test]
    fn the_page_is_whole_and_text_is_no_markup() {
        let text = "FAIL  log: </script><img src=x> \"DATA\"".to_owned();
        let lines = [Line {
            event: 0,
            at_ns: 1,
            life: 1,
            text,
        }];
        let head = Head {
            title: "seed 1".to_owned(),
            failure: Some("log: <b>".to_owned()),
            replay: "replay".to_owned(),
        };
        let page = page(&head, &story::read(&lines));
        assert!(page.starts_with("<!doctype html>"));
        assert_eq!(page.matches("</script>").count(), 2, "data and code");
        assert!(!page.contains("<img") && !page.contains("log: <b>"));
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            let ours = page.replace("src=x", "");
            assert!(!ours.contains(outside), "{outside} in the page");
        }
    }
}
