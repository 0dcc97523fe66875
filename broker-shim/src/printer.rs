//! Standard output that may be long, and whose reader may leave.
//!
//! *Owns*: what becomes of an output that fails.
//! *Does not own*: what is printed.
//!
//! Invariants
//! 1. A reader that has seen enough is no failure; it only ends the output.
//!
//! *IO: driver* (whatever writer it is given)

use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::exit::{Code, Exit};

/// Prints until it fails.
pub(crate) struct Printer {
    out: Box<dyn Write + Send>,
    terminal: bool,
    failure: Option<io::Error>,
}

impl Printer {
    /// Prints to `out`; `terminal` says whether a person looks at it.
    pub(crate) fn new(out: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self {
            out,
            terminal,
            failure: None,
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints `bytes`; `Break` if nobody reads any more.
    pub(crate) fn put(&mut self, bytes: impl AsRef<[u8]>) -> ControlFlow<()> {
        if self.failure.is_none() {
            self.failure = self.out.write_all(bytes.as_ref()).err();
        }
        if self.failure.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Everything was printed.
    pub(crate) fn finish(mut self) -> Result<(), Exit> {
        let failure = match self.failure.take() {
            None => self.out.flush().err(),
            failure => failure,
        };
        match failure {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Exit::new(
                Code::Environment,
                "cannot print",
                "standard output",
                "room for the output",
                error,
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::Printer;
    use crate::exit::Code;

    /// What was printed.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn printer(&self) -> Printer {
            Printer::new(Box::new(self.clone()), false)
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_left_ends_the_output_and_a_full_disk_fails_it() {
        let page = Page::default();
        let mut printer = page.printer();
        assert!(printer.put("a").is_continue() && printer.put(b"b").is_continue());
        printer.finish().unwrap();
        assert_eq!(*page.0.lock(), b"ab");

        let mut printer = Printer::new(Box::new(Refusing(io::ErrorKind::BrokenPipe)), false);
        assert!(printer.put("a").is_break());
        printer.finish().unwrap();
        let mut printer = Printer::new(Box::new(Refusing(io::ErrorKind::StorageFull)), false);
        assert!(printer.put("a").is_break());
        assert_eq!(printer.finish().unwrap_err().code, Code::Environment);
    }
}
