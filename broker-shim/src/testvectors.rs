//! Reads the commented hex files in docs/formats/vectors, for tests.
//!
//! *Owns*: `# name:` and `# refuse:` lines and the bytes between them.
//! *Does not own*: anything in production.
//!
//! *IO: none*

/// One vector of a file.
#[derive(Debug)]
pub(crate) struct Vector {
    pub(crate) name: String,
    /// Why the bytes must be refused; `None` for good ones.
    pub(crate) refuse: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

/// All vectors of `text`, in order.
pub(crate) fn vectors(text: &str) -> Vec<Vector> {
    let mut all: Vec<Vector> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# name: ") {
            all.push(Vector {
                name: name.to_owned(),
                refuse: None,
                bytes: Vec::new(),
            });
        } else if let Some(reason) = line.strip_prefix("# refuse: ") {
            all.last_mut().expect("a name comes first").refuse = Some(reason.to_owned());
        } else if !line.starts_with('#') {
            let digits = line
                .split_whitespace()
                .map(|hex| u8::from_str_radix(hex, 16).expect("two hex digits"));
            if let Some(vector) = all.last_mut() {
                vector.bytes.extend(digits);
            }
        }
    }
    all
}
