//! The two halves of a connection, as the code that holds them sees them.
//!
//! *Owns*: reading and writing: partial, pending, at an end, reset.
//! *Does not own*: delivery (wires.rs).
//!
//! *IO: none*

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pipe::{PipeId, Segment};
use super::wires::Wires;

/// What the other side sends.
pub struct SimRead {
    pub(super) net: Wires,
    pub(super) id: PipeId,
}

/// What the other side is sent.
pub struct SimWrite {
    pub(super) net: Wires,
    pub(super) id: PipeId,
    pub(super) ended: bool,
}

impl AsyncRead for SimRead {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.net.state.lock();
        let most = state.some_of(buf.remaining());
        let Some(pipe) = state.pipes.get_mut(&self.id) else {
            return Poll::Ready(Ok(()));
        };
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if let Some(bytes) = pipe.take(most) {
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        if pipe.ended {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl SimWrite {
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.state.lock();
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let window = state.faults.window_bytes;
        let wanted = state.some_of(asked);
        let rate = state.faults.reset;
        let reset = asked > 0 && state.rng.chance(rate);
        let Some(pipe) = state.pipes.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = window.saturating_sub(pipe.unread);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let len = wanted.min(room);
        pipe.unread += len;
        let mute = pipe.mute;
        drop(state);
        let mut bytes = BytesMut::with_capacity(len);
        for buffer in buffers {
            let left = len - bytes.len();
            bytes.extend_from_slice(&buffer[..left.min(buffer.len())]);
        }
        if !mute && len > 0 {
            self.net.send(self.id, Segment::Data(bytes.freeze()));
        }
        if reset {
            self.net.break_both(self.id);
        }
        Poll::Ready(Ok(len))
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let speaks = {
            let state = self.net.state.lock();
            let pipe = state.pipes.get(&self.id);
            pipe.is_some_and(|pipe| !pipe.mute && !pipe.broken)
        };
        if speaks {
            self.net.send(self.id, Segment::End);
        }
    }
}

impl AsyncWrite for SimWrite {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimRead {
    fn drop(&mut self) {
        if let Some(pipe) = self.net.state.lock().pipes.get_mut(&self.id) {
            pipe.reader_gone = true;
        }
        self.net.release(self.id);
    }
}

impl Drop for SimWrite {
    fn drop(&mut self) {
        self.end();
        if let Some(pipe) = self.net.state.lock().pipes.get_mut(&self.id) {
            pipe.writer_gone = true;
        }
        self.net.release(self.id);
    }
}
