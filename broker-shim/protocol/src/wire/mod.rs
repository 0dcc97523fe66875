//! The primitives of the wire format, called by the generated code.
//!
//! *Owns*: [`Encoder`], and the decoder with its bounds.
//!
//! *Does not own*: the order of fields (generated).
//!
//! *IO: none*

mod decoder;
mod encoder;

pub(crate) use decoder::Decoder;
pub use decoder::MAX_EXPANSION;
pub use encoder::Encoder;
