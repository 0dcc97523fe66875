//! Licence expressions (SPDX): is there a way to fulfil this one with licences we accept?
//!
//! *Owns*: `OR`, `AND`, `WITH`, parentheses, and the old `A/B`.
//! *Does not own*: which licences are accepted.
//!
//! *IO: none*

/// True when the expression can be fulfilled; `None` when it cannot be read.
pub(crate) fn fulfilled(expression: &str, accepted: &[String]) -> Option<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        accepted,
    };
    let answer = reader.any()?;
    (reader.at == tokens.len()).then_some(answer)
}

struct Reader<'a> {
    tokens: &'a [&'a str],
    at: usize,
    accepted: &'a [String],
}

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(is_next);
        is_next
    }

    fn any(&mut self) -> Option<bool> {
        let mut answer = self.every()?;
        while self.take("OR") {
            answer |= self.every()?;
        }
        Some(answer)
    }

    fn every(&mut self) -> Option<bool> {
        let mut answer = self.one()?;
        while self.take("AND") {
            answer &= self.one()?;
        }
        Some(answer)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let answer = self.any()?;
            return self.take(")").then_some(answer);
        }
        let name = *self.tokens.get(self.at)?;
        if matches!(name, ")" | "AND" | "OR" | "WITH") {
            return None;
        }
        self.at += 1;
        // An exception only adds permissions.
        if self.take("WITH") {
            self.tokens.get(self.at)?;
            self.at += 1;
        }
        Some(self.accepted.iter().any(|accepted| accepted == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_weighed() {
        let accepted = ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0".to_owned()];
        let weigh = |expression| fulfilled(expression, &accepted);
        assert_eq!(weigh("MIT"), Some(true));
        assert_eq!(weigh("GPL-3.0"), Some(false));
        assert_eq!(weigh("GPL-3.0 OR MIT"), Some(true));
        assert_eq!(weigh("GPL-3.0 AND MIT"), Some(false));
        assert_eq!(weigh("ISC AND (Apache-2.0 OR GPL-3.0)"), Some(true));
        assert_eq!(weigh("ISC AND GPL-3.0 OR MIT"), Some(true));
        assert_eq!(weigh("GPL-3.0/MIT"), Some(true));
        assert_eq!(weigh("Apache-2.0 WITH LLVM-exception"), Some(true));
        assert_eq!(weigh("GPL-2.0 WITH Classpath-exception-2.0"), Some(false));
    }

    #[test]
    fn nonsense_is_not_read_as_permission() {
        let accepted = ["MIT".to_owned()];
        for nonsense in [
            "", "MIT OR", "(MIT", "MIT)", "MIT MIT", "AND MIT", "MIT WITH",
        ] {
            assert_eq!(fulfilled(nonsense, &accepted), None, "{nonsense:?}");
        }
    }
}
