//! Rust names for schema names.
//!
//! *Owns*: snake case for fields and modules, keywords, and what counts as a name at all.
//!
//! *Does not own*: uniqueness (`check`).
//!
//! *IO: none*

/// `TimeoutMs` → `timeout_ms`; a run of capitals is one word (`HTTPPort` → `http_port`).
pub(crate) fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let after_lower = i > 0 && !chars[i - 1].is_ascii_uppercase();
        let before_lower = i > 0 && chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (after_lower || before_lower) {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The snake-case field name, with an underscore behind where Rust keeps the word for itself.
pub(crate) fn field(name: &str) -> String {
    const KEYWORDS: [&str; 10] = [
        "type", "match", "ref", "self", "move", "use", "in", "where", "loop", "mod",
    ];
    let snake = snake(name);
    if KEYWORDS.contains(&snake.as_str()) {
        format!("{snake}_")
    } else {
        snake
    }
}

/// Letters and digits, opening with a capital: what the schema calls a name.
pub(crate) fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
}
